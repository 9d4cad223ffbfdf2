package gbs

import (
	"context"
	"math"

	"spillway/decode/grid"
)

// Describe is Version, in the words of package grid.
func (s *Server) Describe(ctx context.Context) (grid.Description, error) {
	v, err := s.Version(ctx)
	if err != nil {
		return grid.Description{}, err
	}
	d := grid.Description{Software: v.Application, Free: v.AvailableSpace}
	if d.Free == math.MaxInt64 {
		d.Free = -1
	}
	return d, nil
}
