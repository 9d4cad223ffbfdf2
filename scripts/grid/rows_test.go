//go:build linux

package main

import (
	"testing"
)

// TestRows: what targets are about is measured.
func TestRows(t *testing.T) {
	for _, s := range []scale{fullScale, quickScale} {
		rowNames := map[string]bool{}
		for _, r := range rows(s) {
			if rowNames[r.name] {
				t.Errorf("there are two rows %s", r.name)
			}
			rowNames[r.name] = true
			sides := map[string]bool{}
			for _, side := range r.sides {
				if sides[side.name] {
					t.Errorf("%s has two sides %s", r.name, side.name)
				}
				sides[side.name] = true
			}
			for _, target := range r.targets {
				if !sides[target.Side] || target.Over != "" && !sides[target.Over] || target.Quantity >= len(r.quantities) {
					t.Errorf("%s has no such figure: %+v", r.name, target)
				}
			}
		}
	}
}
