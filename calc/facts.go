package calc

import "net/netip"

// Facts are what the calculation must know of the host, as a plain value. Everything else comes from the datastore.
type Facts struct {
	Addresses []netip.Addr // of the host's own interfaces
	Sessions  []Session    // of the agent itself, with etcd; those with BGP peers follow from the objects

	// Uplinks are the interfaces that no workload can have, because the host needs them or needed them before, by name. The
	// value says why, in words that follow the name: "carries the host's default route".
	Uplinks map[string]string

	// Parameters are settings of FelixConfiguration that hold on this node whatever the datastore says, as text by name.
	Parameters map[string]string
}

// Session is a connection of the agent's own, which no policy of a host endpoint can cut.
type Session struct {
	Remote   netip.Addr
	Port     uint16 // outbound: the remote's; else ours
	Outbound bool   // the agent connects
	Protocol uint8
}
