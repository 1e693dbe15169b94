package bgp

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/calc"
)

// A router may have one link-local address on two of its interfaces to this host. GoBGP takes the routes of the two sessions for each other:
// a withdrawal in one removes the route of the other. So only one of them is open, and the other one opens when that one goes down.

// settleSame ends the session of two with the same router that has come up last, or the other one if that is down.
func (s *Speaker) settleSame(address, other netip.Addr) {
	closed, left := address, other
	if !s.links[other].up { // the router has moved to another interface; routes of its former session are in the way
		closed, left = other, address
	}
	name := s.nameOf(closed)
	p, there := s.peers[name]
	if !there {
		return
	}
	if err := s.deletePeer(name, p, "it is the same router as another peer with this link-local address"); err != nil {
		s.logOf(closed).WithError(err).Warn("the routes of two BGP peers that are one router with one link-local address are taken for each other")
		return
	}
	if err := s.srv.refresh(left); err != nil { // its routes may have gone with those of the other one
		s.logOf(left).WithError(err).Warn("routes of a BGP peer may be missing until its session is reset")
	}
	if closed == other {
		s.open(name, p.session)
		return
	}
	same := s.nameOf(left)
	s.stayClosed(name, p, fmt.Errorf("the router at %v is also that of peer %s, with the same link-local address and router id, and GoBGP takes their "+
		"routes for each other, so this session is closed while the other one is up; give the router another link-local address on one of its "+
		"interfaces", address, cmp.Or(Called(same, s.peers[same].calc), other.String())))
	s.limited[name] = closing{session: p.session, why: s.failed[name], same: left}
}

// reopenSame opens the sessions that are closed because of one that has gone down.
func (s *Speaker) reopenSame(gone netip.Addr) {
	for name, c := range s.limited {
		if c.same == gone {
			delete(s.limited, name)
			delete(s.failed, name)
			s.open(name, c.session)
		}
	}
}

// open adds a peer that was closed. If that fails, the next Apply tries it again.
func (s *Speaker) open(name string, sess session) {
	want, wanted := s.wanted.Peers[name]
	if !wanted {
		return
	}
	for _, err := range s.addPeers(map[string]calc.Peer{name: want}, map[string]session{name: sess}) {
		s.log.WithError(err).Warn("a BGP peer cannot be opened")
	}
}
