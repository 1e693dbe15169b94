package bgp

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/calc"
)

func family(v4 bool) string {
	if v4 {
		return "IPv4"
	}
	return "IPv6"
}

// familiesOf names the families of a session with a peer.
func familiesOf(peer netip.Addr) string {
	return fmt.Sprint(calc.Carries(peer, true), calc.Carries(peer, false))
}

func (state peerState) takes(v4 bool) bool {
	if v4 {
		return state.Takes4
	}
	return state.Takes6
}

// missingFamily says that a peer does not take the routes of a family, and what to do. It is empty if nothing is missing. A session
// between link-local addresses may do without a family for which this node has nothing to announce, or another session.
func (s *Speaker) missingFamily(sess session, state peerState) string {
	linkLocal := sess.Address.Zone() != ""
	for _, v4 := range []bool{true, false} {
		switch {
		case !calc.Carries(sess.Address, v4), state.takes(v4):
		case !linkLocal, !v4 && !state.takes(!v4): // one of the two is always needed
			return fmt.Sprintf("the peer takes no %s routes; enable that address family there", family(v4))
		case !s.announces(v4) || s.hasSession(v4):
		case v4:
			return "the peer takes no IPv4 routes with IPv6 next hops; enable IPv4 and extended next hops (RFC 8950) there, or add a BGPPeer with its IPv4 address"
		default:
			return "the peer takes no IPv6 routes; enable that address family there, or add a BGPPeer with its IPv6 address"
		}
	}
	return ""
}

// announces says whether this node announces routes of a family.
func (s *Speaker) announces(v4 bool) bool {
	for prefix := range s.paths {
		if prefix.Addr().Is4() == v4 {
			return true
		}
	}
	return false
}

// hasSession says whether a session for one family only is wanted.
func (s *Speaker) hasSession(v4 bool) bool {
	for _, p := range s.wanted.Peers {
		if !p.LinkLocal() && p.Carries(v4) {
			return true
		}
	}
	return false
}
