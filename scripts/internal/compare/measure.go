package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Measure adds what measure returns for each of so many rows, and says on progress how it goes on.
// The error is that it was interrupted, which the context's end does. What fails is in the Results.
func (r *Report) Measure(ctx context.Context, progress io.Writer, rows int, measure func(row int) Result) error {
	start := time.Now()
	for i := range rows {
		began := time.Now()
		result := measure(i)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		for _, o := range result.Outcomes {
			if o.Err != nil {
				fmt.Fprintf(progress, "%s: %s: %v\n", result.Name, o.Side, o.Err)
			}
		}
		r.Results = append(r.Results, result)
		fmt.Fprintf(progress, "%-40s %v\n", result.Name, time.Since(began).Round(100*time.Millisecond))
	}
	r.Took = time.Since(start)
	return nil
}

// Publish writes the report into a file, or on standard output if path is empty. It returns an
// error also when sides of rows failed.
func (r *Report) Publish(path string) error {
	var err error
	if path == "" {
		err = r.Write(os.Stdout)
	} else {
		err = r.writeFile(path)
	}
	failed := 0
	for _, result := range r.Results {
		for _, o := range result.Outcomes {
			if o.Err != nil {
				failed++
			}
		}
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d sides of rows failed", failed))
	}
	return err
}

func (r *Report) writeFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.Write(f), f.Close())
}
