package bgp

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
)

// Several sessions may have one link-local address, on different interfaces: leaf switches often have fe80::1 on every port. The
// policies of GoBGP know no interface, so they judge the routes of all these peers alike. That is right only if all shall be judged alike.

// unlike says whether two peers have different rules for their routes.
func unlike(want calc.BGP, a, b calc.Peer) bool {
	f, g := filteredPeer(want, a, a.Address), filteredPeer(want, b, b.Address)
	return f.ownAS != g.ownAS || f.nextHop != g.nextHop || importText(f) != importText(g) || exportText(f) != exportText(g)
}

// deleteUnlike removes peers whose link-local address a wanted peer has on another interface, if they are wanted no longer, or not with
// these rules. It comes before the rules change: a peer that is not wanted must not be judged by those of another one.
func (s *Speaker) deleteUnlike(want map[string]session) (errs []error) {
	shared := map[netip.Addr]bool{}
	for _, sess := range want {
		if sess.Address.Zone() != "" {
			shared[sess.Address.WithZone("")] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		have := s.peers[name]
		if _, wanted := want[name]; wanted || !shared[have.session.Address.WithZone("")] {
			continue
		}
		_, named := s.wanted.Peers[name]
		if err := s.deletePeer(name, have, endCause(false, named)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
