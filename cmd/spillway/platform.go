//go:build !linux

package main

import _ "embed"

// Elsewhere a build ends with this sentence, as no file is called so. A missing file is noticed
// before anything is compiled, so no list of undefined names follows, and no other file needs a
// constraint.
//
//go:embed "Spillway needs Linux, for files without names (O_TMPFILE), fallocate and sendfile at offsets"
var _ string
