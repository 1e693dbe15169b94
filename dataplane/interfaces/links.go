package interfaces

import (
	"maps"
	"net/netip"
	"slices"
)

// Link is a network interface as the kernel describes it.
type Link struct {
	Index     int
	Name      string
	AltNames  []string // further names, as udev gives them (ip link property add dev eth0 altname enp3s0)
	Alias     string   // a text that any program may set (ip link set eth0 alias TEXT); empty: none
	Up        bool     // administratively; a missing carrier does not matter here
	Loopback  bool
	Layer3    bool   // its packets have no Ethernet header
	Kind      string // veth, bridge, bond, ...; empty for hardware
	Master    int    // index of the bridge or bond that it belongs to; 0: none
	On        int    // index of the interface on which it was made, as for a VLAN or a tunnel; 0: none
	MAC       string
	MTU       int
	Addresses []netip.Addr // sorted
	VLANs     VLANs        // of a port of a bridge that filters VLANs
	Uplink    bool         // a default route of any table of the host leaves by it

	// Life grows whenever the kernel may have dropped programs on the interface or routes by it: it was deleted (and another one
	// got its index), it went down, or events were lost.
	Life uint64

	FiltersVLANs bool // a bridge that keeps VLANs apart
}

// Links has all interfaces at one moment, by index. It is a value that nothing changes.
type Links map[int]Link

// Named finds an interface by its name, or by one of its alternative names.
func (l Links) Named(name string) (Link, bool) {
	for _, link := range l {
		if link.Name == name || slices.Contains(link.AltNames, name) { // a name is never both
			return link, true
		}
	}
	return Link{}, false
}

// Carries says whether lower carries the packets of upper: upper was made on lower, or upper is a bridge or bond and lower is a
// port of it. Ports of virtual machines and containers carry nothing for the bridge.
func (l Links) Carries(lower, upper Link) bool {
	if upper.On == lower.Index {
		return true
	}
	master := l[lower.Master]
	switch master.Kind {
	case "bond", "team":
		return master.Index == upper.Index
	case "bridge":
		return master.Index == upper.Index && !isOfGuest(lower)
	case "openvswitch": // its ports for the host have no master
		return upper.Kind == master.Kind && !isOfGuest(lower)
	}
	return false
}

func isOfGuest(port Link) bool {
	return port.Kind == "tun" || port.Kind == "tuntap" || port.Kind == "veth"
}

// Addresses returns the addresses of all interfaces, sorted.
func (l Links) Addresses() []netip.Addr {
	all := map[netip.Addr]struct{}{}
	for _, link := range l {
		for _, a := range link.Addresses {
			all[a] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}

// sorted returns the interfaces in the order of their names.
func (l Links) sorted() []Link {
	return slices.SortedFunc(maps.Values(l), func(a, b Link) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return a.Index - b.Index
	})
}

func (l Link) equal(o Link) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Alias == o.Alias && l.Up == o.Up && l.Loopback == o.Loopback && l.Layer3 == o.Layer3 &&
		l.Kind == o.Kind && l.Master == o.Master && l.On == o.On && l.MAC == o.MAC && l.Uplink == o.Uplink && l.Life == o.Life &&
		slices.Equal(l.Addresses, o.Addresses) && slices.Equal(l.AltNames, o.AltNames) && l.FiltersVLANs == o.FiltersVLANs && l.VLANs.equal(o.VLANs)
}
