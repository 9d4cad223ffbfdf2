package main

import (
	"errors"
	"fmt"
	"io/fs"

	"spillway/decode/grid/file"
)

type gridImportCmd struct {
	Output  string `short:"o" placeholder:"FILE" type:"path" env:"-" help:"File to write, readable by its owner alone; without one the servers go to standard output."`
	Force   bool   `env:"-" help:"Replace FILE if it is there."`
	NodeDir string `arg:"" name:"nodedir" type:"path" help:"Directory of a Tahoe-LAFS client node, such as ~/.tahoe."`
}

func (c *gridImportCmd) Run(std streams) error {
	imported, err := file.Import(c.NodeDir)
	if err != nil {
		return err
	}
	for _, note := range imported.Notes {
		fmt.Fprintln(std.err, note)
	}
	if len(imported.Servers) == 0 {
		return fmt.Errorf("none of the %d servers that %s knows can be used, so no grid file was written", imported.Known, c.NodeDir)
	}
	if c.Output == "" {
		_, err = std.out.Write(file.Format(imported.Servers))
	} else if err = file.Write(c.Output, imported.Servers, c.Force); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; --force replaces it", c.Output)
	}
	if err != nil {
		return fmt.Errorf("writing the grid file: %w", err)
	}
	fmt.Fprintf(std.err, "%d of %d servers imported\n", len(imported.Servers), imported.Known)
	return nil
}
