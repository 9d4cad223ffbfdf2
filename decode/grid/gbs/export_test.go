package gbs

import "context"

// Watch and Move are watch and move.
func (s *Server) Watch(cancel context.CancelCauseFunc) (stop func()) { return s.watch(cancel) }
func (s *Server) Move()                                              { s.move() }

// ParseNURL returns what String, the swissnum and the locations of a URL are.
func ParseNURL(text string) (s, swissnum string, locations []string, err error) {
	n, err := parseNURL(text)
	return n.String(), n.swissnum, n.locations, err
}

// UnmarshalAll decodes b as every kind of answer.
func UnmarshalAll(b []byte) (shares []int, errs []error) {
	var set shareSet
	for _, answer := range []any{&set, new(versionAnswer), new(allocateAnswer), new(writeAnswer)} {
		errs = append(errs, unmarshal(b, answer))
	}
	return set, errs
}

// MarshalSet encodes a set of share numbers.
func MarshalSet(nums []int) []byte { return marshal(shareSet(nums)) }
