//go:build linux

package sink

var CheckHeader = checkHeader
