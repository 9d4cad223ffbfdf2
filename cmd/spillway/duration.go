package main

import (
	"fmt"
	"time"
)

// timeout is how long something may take, which is more than no time.
type timeout time.Duration

func (t *timeout) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no time of more than 0s; write 500ms, 10s or 2m", text)
	}
	*t = timeout(d)
	return nil
}

// period is how long something is kept, which may be no time.
type period time.Duration

func (p *period) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no time of 0s or more; write 0s, 30m or 2h", text)
	}
	*p = period(d)
	return nil
}
