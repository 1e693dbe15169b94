package classifier

import (
	"net/netip"

	"github.com/margay-project/margay/calc"
)

// membersOf are sets with at most the two addresses of a packet, each as the sets given for it say.
func membersOf(source, dest map[calc.SetID]calc.Members, p calc.Packet) map[calc.SetID]calc.Members {
	out := map[calc.SetID]calc.Members{}
	add := func(sets map[calc.SetID]calc.Members, a netip.Addr) {
		for id, m := range sets {
			if out[id] == nil {
				out[id] = calc.Members{}
			}
			if m.Contain(a) {
				out[id][netip.PrefixFrom(a, a.BitLen())] = struct{}{}
			}
		}
	}
	add(source, p.Source)
	add(dest, p.Destination)
	return out
}
