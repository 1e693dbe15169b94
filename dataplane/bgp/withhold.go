package bgp

import "time"

// Withheld is the reason why a wanted peer gets no session for now.
type Withheld struct {
	Why string
	// Soon says that the peer gets its session within its restart time: it counts among those that hear of our restart, and
	// routes that a former process learned from it may still be valid.
	Soon bool
}

// Withhold replaces the wanted peers that get no session, by name, from the next Apply on. A session that is up goes on.
func (s *Speaker) Withhold(peers map[string]Withheld) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withheld = peers
}

// withheldSoon returns the wanted peers that get their session soon: also those that the kernel does not reach yet.
func (s *Speaker) withheldSoon() map[string]bool {
	soon := map[string]bool{}
	for name, w := range s.withheld {
		if _, wanted := s.wanted.Peers[name]; wanted && w.Soon {
			soon[name] = true
		}
	}
	for name := range s.wanted.Unreached {
		soon[name] = true
	}
	return soon
}

// Sessions returns the peers whose session is up, by name, and since when. News delivers when they change.
func (s *Speaker) Sessions() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := map[string]time.Time{}
	for name, p := range s.peers {
		if l := s.links[p.session.Address]; l.up {
			up[name] = l.since
		}
	}
	return up
}
