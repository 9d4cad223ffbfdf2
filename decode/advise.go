package decode

import (
	"context"

	"spillway/decode/grid"
)

// adviseLocked has the server told that it holds a corrupt share, if its kind can be: in
// the background, one share of the file after another, and no more once the File is closed.
func (f *File) adviseLocked(s *share) {
	if _, ok := s.member.Server.Server.(grid.CorruptionReporter); !ok {
		return
	}
	f.untold = append(f.untold, s)
	if !f.telling {
		f.telling = f.startLocked(f.advise) == nil
	}
}

// advise tells the servers until all are told.
func (f *File) advise(ctx context.Context) {
	for {
		f.mu.Lock()
		if len(f.untold) == 0 || ctx.Err() != nil {
			f.telling = false
			f.mu.Unlock()
			return
		}
		s := f.untold[0]
		f.untold = f.untold[1:]
		reason := problemText(s.corrupt)
		f.mu.Unlock()
		request, cancel := context.WithTimeoutCause(ctx, f.client.timeout, errTimeout)
		err := s.member.Server.Server.(grid.CorruptionReporter).ReportCorrupt(request, f.cap.index, s.num, reason)
		err = timeoutCause(request, err)
		cancel()
		if err != nil && ctx.Err() == nil {
			f.client.serverErrors.Add(1)
			f.client.log.Warn("server not told of its corrupt share", "file", f.id, "share", s.num, "server", s.member.String(), "error", err.Error())
		}
	}
}
