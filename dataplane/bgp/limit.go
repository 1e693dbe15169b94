package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
)

// closeLimited removes a peer that has sent more routes than allowed. GoBGP has ended the session, but it may take that for a restart of
// the peer, and keep the routes for the peer's restart time. The peer stays closed until the settings of its session change.
func (s *Speaker) closeLimited(address netip.Addr) {
	name := s.nameOf(address)
	p, there := s.peers[name]
	if !there {
		return
	}
	if err := s.srv.deletePeer(p.session.Address); err != nil {
		s.logOf(address).WithError(err).Warn("the routes of a BGP peer that has sent too many may stay for its restart time")
		return
	}
	s.stayClosed(name, p, limitError(p.session))
}

// closeSame removes a peer whose routes GoBGP cannot tell from those of another peer: both have one link-local address, on different
// interfaces, and are the same router. With its routes GoBGP may have removed those of the other one, so it reads these again.
func (s *Speaker) closeSame(address, other netip.Addr) {
	name := s.nameOf(address)
	p, there := s.peers[name]
	if !there {
		return
	}
	if err := s.deletePeer(name, p, "it is the same router as another peer with this link-local address"); err != nil {
		s.logOf(address).WithError(err).Warn("the routes of two BGP peers that are one router with one link-local address are taken for each other")
		return
	}
	if err := s.srv.refresh(other); err != nil {
		s.logOf(other).WithError(err).Warn("routes of a BGP peer may be missing until its session is reset")
	}
	same := s.nameOf(other)
	s.stayClosed(name, p, fmt.Errorf("the router at %v is also that of peer %s, with the same link-local address and router id, and GoBGP takes their "+
		"routes for each other, so this session is closed and stays so; give the router another link-local address on one of its interfaces, "+
		"then change this BGPPeer or restart felix", address, cmp.Or(Called(same, s.peers[same].calc), other.String())))
}

// stayClosed notes that a peer that was removed does not come back before the settings of its session change.
func (s *Speaker) stayClosed(name string, p peer, why error) {
	delete(s.peers, name)
	delete(s.links, p.session.Address)
	s.limited[name], s.failed[name] = closing{p.session, why}, why
	s.heardOfRestart(name)
	s.signalComplete()
}

// closing is a session that stays closed, and why.
type closing struct {
	session session
	why     error
}

// isClosed says why a peer stays closed. It is nil if the peer may have its session.
func (s *Speaker) isClosed(name string, want session) error {
	closed := s.limited[name]
	if closed.session != want {
		delete(s.limited, name)
		return nil
	}
	return closed.why
}

func limitError(s session) error {
	return fmt.Errorf("the peer sent more than %d routes, so the session is closed and stays so; announce fewer there, "+
		"then change maxPrefixes of the BGPPeer or restart felix", s.MaxPrefixes)
}
