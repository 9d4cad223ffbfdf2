package allowance

// Holders returns how many hold something.
func (a *Allowance) Holders() int { return len(a.held) }
