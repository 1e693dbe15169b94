// Package embed runs an etcd server inside of this process, for one machine or for a small cluster without an etcd of its
// own. felix runs it in a child process; tests run it beside themselves. Clients connect to it with package etcd.
//
// It is not part of package etcd, because the server is large: a program that only connects must not link it.
//
// It guarantees:
//
//   - Only the user of this process can open the directory and its sockets. Other machines reach the server only at the
//     TCP address that was asked for.
//   - One process uses a directory at a time. Another is refused.
//   - Data survives Close and the end of the process.
//   - Damaged data is an error when the server starts, not a panic.
//   - When the running server cannot go on, it sends the reason to Fatal. The process must end then.
package embed
