// Package routes keeps the kernel's routes to local workloads, and the black holes of this node's blocks.
//
// Every route of ours bears our protocol number, by which it is recognised after a restart. A route that is not ours
// is never replaced or removed: where one stands in the way, ours is reported as failed and tried again.
//
// A workload's gateway is 169.254.1.1 for IPv4, as in Calico: the host answers for it by proxy ARP. The kernel does so
// only when it has a route to the address by another interface, which a host without a default route has not;
// therefore the address has a route of its own into loopback, and the gate drops what is really sent there (without the
// gate such a packet goes round until its time to live ends). For IPv6
// the gateway is the link-local address of the host's side of the workload's interface.
//
// Plan says which routes should be there, Kernel puts them there; a table.Table stands between them.
package routes
