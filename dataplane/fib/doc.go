// Package fib reads the kernel's routing tables on a host that may also carry the full table of a router: hundreds of
// thousands of routes that are not ours.
//
// It answers three questions, none of which copies all routes into this process:
//
//   - Which routes did we make? Reader.Of: the kernel itself filters by protocol.
//   - Which route to exactly this prefix is used? Reader.Best: one lookup.
//   - By which interfaces do default routes leave, in any table? Reader.Defaults: the kernel cannot filter by the length of a
//     prefix, so it walks all routes, but reads two bytes of each and keeps only the default routes. Call it at the start
//     and when a default route may have gone, never for each event.
//
// OnlyDefaults filters the notifications about routes that the kernel delivers to a socket.
package fib
