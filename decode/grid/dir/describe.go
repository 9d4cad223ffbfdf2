package dir

import (
	"context"
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"spillway/decode/grid"
)

// Describe tells the free space of the file system, as far as it is for every user. The directory
// need not hold shares yet.
func (s *Server) Describe(ctx context.Context) (grid.Description, error) {
	if ctx.Err() != nil {
		return grid.Description{}, context.Cause(ctx)
	}
	var st unix.Statfs_t
	for {
		err := unix.Statfs(s.path, &st)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return grid.Description{}, &os.PathError{Op: "statfs", Path: s.path, Err: err}
		}
	}
	blocks, size := uint64(st.Bavail), uint64(st.Bsize)
	if size > 0 && blocks > math.MaxInt64/size {
		return grid.Description{Free: -1}, nil
	}
	return grid.Description{Free: int64(blocks * size)}, nil
}
