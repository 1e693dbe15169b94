// Package fib reads the kernel's routing tables on a host that may also carry the full table of a router: hundreds of
// thousands of routes that are not ours.
//
// Three questions are asked of the tables, and each has an answer that does not copy all routes into this process:
//
//   - Which routes did we make? Reader.Of: the kernel itself filters by protocol.
//   - Which route to exactly this prefix is used? Reader.Best: one lookup.
//   - By which interfaces do default routes leave, in any table? Reader.Defaults: the kernel cannot filter by the length
//     of a prefix, so this one does walk all routes, but looks at two bytes of each and keeps only the default routes.
//     Ask it at the start and when a default route may have gone, never for each event.
//
// OnlyDefaults has the kernel deliver to a socket of notifications only those that concern default routes.
package fib
