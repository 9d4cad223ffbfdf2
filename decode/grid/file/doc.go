// Package file knows the grid file: what it says, how one is read again while servers are in use,
// and how one is made of what a Tahoe-LAFS client node knows of its grid.
//
// A grid file names the storage servers of a grid, in YAML:
//
//		servers:
//		  - nickname: attic
//		    url: pb://KEY@HOST:PORT/SWISSNUM#v=1
//		    permutation-seed: mzxw6ytboi
//
//	  - servers is a list of at least one server, in order of preference.
//	  - nickname names the server in messages, logs and pages: 1 to 64 printable characters, without
//	    :// and without spaces around them.
//	  - url is one of those that package kinds knows.
//	  - permutation-seed is the server's place in the order in which Tahoe-LAFS's clients look for
//	    shares, in base32 in lower case. Without one it is what the kind of server knows by itself.
//
// Invariants:
//
//   - URLs hold passwords. No error, warning or note quotes one, nor any text that may be a URL in
//     the wrong place; a Server is printed as its nickname, or as its URL without the password.
//   - Reading is strict. What is not known is an error, which names the file, the line and the
//     server's nickname, if it has one.
//   - No two servers of a file have one URL, whatever their passwords, or one nickname.
//   - What Format writes is read as the same servers.
//   - What Write leaves is readable by its owner alone, and an old file is replaced whole or not at
//     all.
//   - What is imported from a node are servers elsewhere (pb://), whatever its files say: they come
//     from an introducer, which must not have this machine's directories read.
//   - Nothing is asked of any server. So those that nobody uses in the end need not be closed.
package file
