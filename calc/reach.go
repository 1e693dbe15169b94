package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// Reaches reports whether a host endpoint admits a new TCP connection from one of some addresses to a port of the host.
func Reaches(s *State, ep EndpointID, from []netip.Addr, to netip.Addr, port uint16) bool {
	return slices.ContainsFunc(from, func(source netip.Addr) bool {
		p := Packet{Source: source, Destination: to, Protocol: protocolTCP, SourcePort: 49152, DestinationPort: port}
		return source.Is4() == to.Is4() && Judge(s, ep, PreDNAT, Ingress, p).Action != api.Deny &&
			Judge(s, ep, Normal, Ingress, p).Action == api.Allow
	})
}

// Sources returns addresses to try an endpoint's ingress rules with: two of each network and up to eight of each set that the rules name,
// and one of each family that hardly any rule names.
func Sources(s *State, ep EndpointID) (list []netip.Addr) {
	const ofEachSet = 8
	seen := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if !seen[a] {
			seen[a], list = true, append(list, a)
		}
	}
	add(netip.MustParseAddr("203.0.113.77")) // from the networks for documentation, RFC 5737 and RFC 3849
	add(netip.MustParseAddr("2001:db8::77"))
	e := s.Endpoints[ep]
	ids := slices.Collect(policiesOf(e))
	for _, name := range e.Profiles {
		ids = append(ids, PolicyID{Kind: api.KindProfile, Name: name})
	}
	for _, id := range ids {
		for _, r := range s.Policies[id].Ingress {
			for _, net := range slices.Concat(r.Source.Nets, r.Source.NotNets) {
				add(net.Addr())
				add(net.Addr().Next()) // the first may be the network's own
			}
			n := 0
			for member := range s.Sets[r.Source.Set] {
				if n++; n > ofEachSet {
					break
				}
				add(member.Addr())
			}
		}
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return !a.IsValid() })
}
