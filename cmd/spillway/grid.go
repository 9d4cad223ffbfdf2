package main

// gridCmd is what an operator does with a grid's servers.
type gridCmd struct {
	Import gridImportCmd `cmd:"" help:"Write a grid file of the servers that a Tahoe-LAFS client node knows."`
	Ping   gridPingCmd   `cmd:"" help:"Ask every server whether it is well, and which shares of a file it holds."`
}
