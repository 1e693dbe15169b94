package bgp

import (
	"fmt"
	"net/netip"
)

// closeLimited removes a peer that has sent more routes than allowed. GoBGP has ended the session, but it may take that for a restart of
// the peer, and keep the routes for the peer's restart time. The peer stays closed until the settings of its session change.
func (s *Speaker) closeLimited(address netip.Addr) {
	name := s.nameOf(address.WithZone(""))
	p, there := s.peers[name]
	if !there {
		return
	}
	if err := s.srv.deletePeer(p.session.Address); err != nil {
		s.logOf(address).WithError(err).Warn("the routes of a BGP peer that has sent too many may stay for its restart time")
		return
	}
	delete(s.peers, name)
	delete(s.links, address.WithZone(""))
	s.limited[name], s.failed[name] = p.session, limitError(p.session)
	s.heardOfRestart(name)
	s.signalComplete()
}

// isLimited says whether a peer stays closed because it has sent more routes than allowed.
func (s *Speaker) isLimited(name string, want session) bool {
	closed, yes := s.limited[name]
	if yes && closed != want {
		delete(s.limited, name)
	}
	return yes && closed == want
}

func limitError(s session) error {
	return fmt.Errorf("the peer sent more than %d routes, so the session is closed and stays so; announce fewer there, "+
		"then change maxPrefixes of the BGPPeer or restart felix", s.MaxPrefixes)
}
