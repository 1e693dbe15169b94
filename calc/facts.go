package calc

import "net/netip"

// Facts is all that the calculation knows of the host itself, as a plain value. The rest comes from the datastore. The agent sets it, and
// must not change it after it has handed it over.
type Facts struct {
	Addresses []netip.Addr // of the host's own interfaces
	Sessions  []Session    // of the agent itself, with etcd; those with BGP peers follow from the objects

	// Uplinks are the interfaces that no workload gets, by name, because the host needs them or needed them before. The value says
	// why, in words that follow the name: "carries the host's default route". See docs/decisions/0006-uplinks.md.
	Uplinks map[string]string

	// Parameters are settings of FelixConfiguration that come from the agent's environment, as text by name in lower case. They
	// override the datastore's.
	Parameters map[string]string
}

// Session is a connection of the agent itself. No policy of a host endpoint can cut it.
type Session struct {
	Remote   netip.Addr
	Port     uint16 // of the end that is connected to: the remote's if Outbound, else this host's
	Outbound bool   // the agent connects
	Protocol uint8
}
