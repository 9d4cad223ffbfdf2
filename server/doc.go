// Package server is the HTTP face of Spillway. It answers requests for files from the spool while
// the grid fills it, and lets the operator see and empty the spool on a listener of its own.
//
// # Steps
//
// What a request for a file goes through:
//
//  1. Its URL names a cap, and what the download is called (target.go). A connection remembers the
//     last one.
//  2. Its header and the file's size make a plan of the answer (plan.go, from conditions.go and
//     ranges.go, all pure).
//  3. The spool gives a content, which need not have a byte yet (content.go).
//  4. The status waits for the first wanted byte, or two seconds (download.go).
//  5. The planned bytes go to the client as they come (fileAnswer in download.go). The package
//     transport sends them, also after the handler has returned.
//  6. The request is logged and counted when its last byte is out, or when it is broken off
//     (observe.go).
//
// An error before the header becomes a status, in one function (failure.go). An error after it cuts
// the connection.
//
// # What is promised
//
//   - A short body never looks complete.
//   - A resume that matches the file is answered 206, on every instance and after every restart.
//   - No answer is longer than the file it is of, and no header than a few kilobytes.
//   - A file that cannot be read is refused with what readers may know of the reason.
//   - Caps are secrets. They reach no log line, metric or body; files are named by caps.Cap.ID.
//   - Labels of metrics come from closed sets, so that clients cannot grow them.
//   - Each request leaves one line in the log.
//
// # Who owns what
//
// The handler's goroutine owns a request's content, plan and line of the log. An answer that is
// handed over takes them with it; its end (fileAnswer.Done) closes the content. Everything else is
// in the Server, does not change after New, and may be used concurrently.
package server
