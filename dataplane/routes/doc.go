// Package routes keeps the kernel's routes to local workloads and the black holes of this node's blocks (kernel.go), and routes by other
// hosts (hops.go): those that BGP peers have announced, those to other nodes, and those to BGP peers.
//
// Every route of ours has our protocol number, so a restarted agent recognises it. Routes of other programs are never replaced or
// removed: if one stands in the way, ours is reported as failed and tried again.
//
// A workload's gateway is 169.254.1.1 for IPv4, as in Calico: the host answers for it by proxy ARP. The kernel does so
// only when it has a route to the address by another interface, and a host without a default route has none. So the address
// gets a route of its own into loopback, and the gate drops packets that are sent there. (Without the gate such a packet would
// go round until its time to live ends.) For IPv6 the gateway is the link-local address of the host's side of the workload's
// interface.
//
// Plan says which routes are wanted, Kernel writes them, and a table.Table between them keeps the difference.
package routes
