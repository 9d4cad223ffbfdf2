package decode

import "spillway/decode/grid"

// Permuted returns the names of the servers in the order for si.
func Permuted(servers []Server, si grid.StorageIndex) (names []string) {
	var members []*member
	for _, s := range servers {
		members = append(members, &member{Server: s})
	}
	for _, m := range permute(members, si) {
		names = append(names, m.String())
	}
	return names
}

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
func (o PutOptions) WithLayout(version int) PutOptions {
	o.layout = version
	return o
}

// WaitMetadata waits until the metadata cache has taken what it was given.
func (c *Client) WaitMetadata() { c.metadata.files.Wait() }
