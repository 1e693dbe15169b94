package calc

import "net/netip"

// Facts are what the calculation must know of the host, as a plain value. Everything else comes from the datastore.
type Facts struct {
	Addresses []netip.Addr // of the host's own interfaces
	Uplinks   []string     // interfaces that no workload can have: those of default routes, of etcd and of peers
	Sessions  []Session    // of the agent itself, with etcd; those with BGP peers follow from the objects

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
