package transport

// SetSend replaces the system call that sends bytes of the process's own.
func (t *Transport) SetSend(wrap func(send func(fd int, p []byte) (int, error)) func(fd int, p []byte) (int, error)) {
	t.send = wrap(t.send)
}

// MaxFields is maxFields.
const MaxFields = maxFields
