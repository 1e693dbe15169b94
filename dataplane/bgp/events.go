package bgp

import (
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
)

// changed logs that a session went up or down, and returns its new link. The time that it spent in the former state is logged
// too: a session that flaps shows short ones.
func (s *Speaker) changed(e event, before link, now time.Time) link {
	after := link{up: e.Up, since: now, flaps: before.flaps, ends: e.Ends}
	log := s.logOf(e.Address)
	lasted := now.Sub(before.since).Round(time.Millisecond)
	if e.Up {
		log.WithField("after", lasted).Info("BGP session is up")
		return after
	}
	after.flaps++
	cause := s.srv.lastError(e.Address).Text
	if cause == "" {
		cause = "the server gave no cause"
	}
	log.WithFields(logrus.Fields{"cause": cause, "wasUp": lasted, "flaps": after.flaps}).Warn("BGP session is down")
	return after
}

// ended logs that this node ends an established session: observe hears nothing of it any more.
func (s *Speaker) ended(p peer, why string) {
	if l := s.links[p.session.Address]; l.up {
		s.logOf(p.session.Address).WithFields(logrus.Fields{
			"cause": why, "wasUp": time.Since(l.since).Round(time.Millisecond),
		}).Info("BGP session ends")
	}
}

// logOf returns the log of a session: it names the BGPPeer, or the mesh and its node.
func (s *Speaker) logOf(address netip.Addr) *logrus.Entry {
	name := s.nameOf(address)
	p := s.peers[name]
	return s.log.WithFields(logrus.Fields{"address": address, "peer": Called(name, p.calc), "as": p.session.AS})
}
