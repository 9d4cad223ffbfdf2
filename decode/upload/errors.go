package upload

import (
	"fmt"
	"strings"

	"spillway/decode/grid"
)

// UnhappyError: a file could not be written to as many servers as it should.
type UnhappyError struct {
	Happy     int                // servers that were each to hold a share of their own
	Reached   int                // servers that would have
	Servers   int                // servers that there are
	Needed    int                // shares without which the file cannot be read
	Shares    int                // distinct shares that there would have been
	Failed    []grid.ServerError // what went wrong
	Discarded []grid.SharePlace  // shares that were begun
	// Kept: shares that could not be discarded: committed, or the server does not answer.
	Kept []grid.SharePlace
}

func (e *UnhappyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upload: not enough servers: %d of %d must hold shares of their own, ", e.Happy, e.Servers)
	switch {
	case e.Happy > e.Servers:
		b.WriteString("and there are no more")
	case e.Shares < e.Needed && e.Reached >= e.Happy:
		fmt.Fprintf(&b, "and %d did, but with only %d shares where %d are needed", e.Reached, e.Shares, e.Needed)
	default:
		fmt.Fprintf(&b, "%d would", e.Reached)
	}
	b.WriteString(grid.ListText("; failed", e.Failed))
	b.WriteString(grid.ListText("; discarded", e.Discarded))
	b.WriteString(grid.ListText("; left behind", e.Kept))
	return b.String()
}
