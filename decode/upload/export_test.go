package upload

// Allot is allot, of servers that hold shares and take more or not.
func Allot(n int, holds [][]int, open []bool) [][]int { return allot(n, holders(holds, open)) }

// Happiness is happiness.
func Happiness(n int, holds [][]int) (happy, distinct int) {
	return happiness(n, holders(holds, make([]bool, len(holds))))
}

func holders(holds [][]int, open []bool) (servers []holder) {
	for i := range holds {
		servers = append(servers, holder{holds[i], open[i]})
	}
	return servers
}

// WithLayout returns options that force the version of the shares' layout.
func (o Options) WithLayout(version int) Options {
	o.layout = version
	return o
}

// MemoryInUse returns how many bytes all Puts take.
func (u *Uploader) MemoryInUse() int64 { return u.memory.InUse() }
