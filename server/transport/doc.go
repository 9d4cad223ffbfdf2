// Package transport sends the answers of an HTTP server without waiting for their clients.
//
// An answer is a header and a list of pieces: texts, and extents of contents, which are files or
// come from elsewhere. The package knows connections, sendfile and net/http. It knows nothing of
// what is sent.
//
// # Steps
//
//  1. Transport.Listener stands in front of the TCP listener and gives net/http connections of
//     ours. Transport.Bound and ConnContext tie a request to its connection.
//  2. A handler decides the whole answer and calls Send.
//  3. While the connection is held, what net/http writes, a header, waits in it. The fields of
//     the answer are added there.
//  4. The header and the pieces are pushed, as far as the client takes them now.
//  5. If all of it has gone, the body is booked with net/http, by the ReadFrom that net/http
//     offers. Keep-alive goes on as ever.
//  6. Else the connection is hijacked and gets a sender: one goroutine with a small stack, no
//     buffer, and nothing of the request. Send returns ErrHandedOver.
//  7. When the last piece is out, the sender tells the Answer (Done) and ends. The connection
//     waits for its next request, and comes out of the listener's Accept again when that begins.
//
// On connections that are not plain TCP, as of TLS and HTTP/2, the pieces are copied instead, and
// the handler waits (copy.go).
//
// # What is promised
//
//   - No byte of a body goes before the last byte of its header, and no answer begins with what an
//     earlier one has left.
//   - A header that is too long is refused before anything is sent.
//   - A body has the length that its header says, or its connection is closed.
//   - A part that a socket takes of a write is never taken for the whole.
//   - An answer that ends early closes its connection, so that it never looks complete.
//   - While a client takes nothing, only a connection, a sender and the current piece are held.
//   - An answer ends when its client takes nothing for StallLimit. Every byte that is taken starts
//     the time anew.
//   - Done is called once for each answer that was handed over, and never for another.
//
// # Who owns what
//
// A connection belongs to one goroutine at a time. net/http's goroutine has it until Hijack, the
// sender until Done, and the waiting one until Accept. The delivery in it, what is left of an
// answer, moves with it. Beside the owner, only these may touch a connection: a cut, which sets the
// write deadline, under the mutex of writeDeadline; and the watcher, which peeks for the client's
// leaving while the sender waits for a content, and has ended before the sender reads or writes.
//
// Each listener has one goroutine that accepts; its Close waits for it. Senders, and connections
// that wait for their next request, belong to the Transport; its Shutdown ends them and waits.
//
// What all of this needs of net/http is not promised by its documentation: contract_test.go says
// it, assumption by assumption.
package transport
