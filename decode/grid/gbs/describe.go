package gbs

import (
	"context"
	"math"

	"golang.org/x/sync/errgroup"

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

// firstConnections is how many requests are sent to a server at a time before the first byte of a
// file is there: for its header and its UEB, then for blocks and hashes.
const firstConnections = 2

// Connect asks for the version so many times at once.
func (s *Server) Connect(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range firstConnections {
		group.Go(func() error {
			_, err := s.Version(ctx)
			return err
		})
	}
	return group.Wait()
}
