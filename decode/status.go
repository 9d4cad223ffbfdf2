package decode

import "time"

// Status is what is known of a file's shares at one moment.
type Status struct {
	Needed, Total int           // k and n
	Found         []SharePlace  // shares that may be used
	Bad           []SharePlace  // shares that are corrupt
	Failed        []ServerError // servers that did not answer last
	Waiting       []ServerWait  // servers that have been asked for their shares
}

// ServerWait names a server that has not answered yet.
type ServerWait struct {
	Server string
	Since  time.Time
}
