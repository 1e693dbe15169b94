package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

const (
	limitInterval = time.Second      // between two looks at the limits, if there is a reason for the second one
	limitLongest  = 30 * time.Second // between two looks, without a reason
	// To receive a route takes GoBGP at least 5 us of processor time, so fewer than 20,000 routes have come in this time.
	limitWork = 100 * time.Millisecond
)

// watchLimits closes peers that have sent more routes than allowed, until ctx ends. GoBGP has a limit of its own, but with each message it
// counts all routes of the peer: 60,000 routes in as many messages take it more than a minute. To count routes costs time here too,
// so they are counted when the best routes have changed, and when this process has worked much.
func (s *Speaker) watchLimits(ctx context.Context) {
	ticker := time.NewTicker(limitInterval)
	defer ticker.Stop()
	var work time.Duration
	var puts uint64
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			changed := s.learned.puts.Load()
			if changed == puts && processorTime()-work < limitWork && now.Sub(last) < limitLongest {
				continue
			}
			s.checkLimits()
			work, puts, last = processorTime(), changed, now
		}
	}
}

// processorTime is the time that this process has used.
func processorTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (s *Speaker) checkLimits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := s.states()
	for name, p := range s.peers {
		if most := p.session.MaxPrefixes; most > 0 && states[p.session.Address].Received > int(most) {
			s.closeLimited(name, p)
		}
	}
}

// closeLimited removes a peer that has sent more routes than allowed. It stays closed until the settings of its session change. The next
// process hears of it by KeepLimited.
func (s *Speaker) closeLimited(name string, p peer) {
	why := limitError(p.session)
	if err := s.deletePeer(name, p, why.Error()); err != nil {
		s.logOf(p.session.Address).WithError(err).Warn("a BGP peer that has sent too many routes cannot be closed")
		return
	}
	s.stayClosed(name, p, why)
	s.learned.signal() // see Limited
}

// Limited returns the wanted peers, by name and sorted, that are closed because they have sent more routes than allowed. known is false before
// the first Apply. News delivers when there are more of them.
func (s *Speaker) Limited() (names []string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.limited {
		if !c.same.IsValid() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, s.applied
}

// KeepLimited names the peers that a former process has closed because they had sent more routes than allowed. They get no session from the first
// Apply on.
func (s *Speaker) KeepLimited(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.formerLimited = names
}

// closeFormerLimited closes a peer that a former process has closed. The Speaker wants its session for the first time.
func (s *Speaker) closeFormerLimited(name string, want session) {
	if i := slices.Index(s.formerLimited, name); i >= 0 {
		s.formerLimited = slices.Delete(slices.Clone(s.formerLimited), i, i+1)
		s.limited[name] = closing{session: want, why: limitError(want)}
		s.learned.signal()
	}
}

// SameSession says whether two settings of a peer give the same session, so a peer that is closed stays closed.
func SameSession(a, b calc.Peer) bool {
	s, _ := newSession(a)
	t, _ := newSession(b)
	return s == t && a.Password == b.Password && a.Client == b.Client
}

// stayClosed notes that a peer that was removed does not come back before the settings of its session change.
func (s *Speaker) stayClosed(name string, p peer, why error) {
	delete(s.peers, name)
	delete(s.links, p.session.Address)
	s.limited[name], s.failed[name] = closing{session: p.session, why: why}, why
	s.heardOfRestart(name)
	s.signalComplete()
}

// closing is a session that stays closed, and why.
type closing struct {
	session session
	why     error
	same    netip.Addr // of the session because of which it is closed; see same.go
}

// isClosed says why a peer stays closed. It is nil if the peer may have its session.
func (s *Speaker) isClosed(name string, want session) error {
	closed := s.limited[name]
	if closed.session != want {
		if _, was := s.limited[name]; was {
			delete(s.limited, name)
			s.learned.signal() // see Limited
		}
		return nil
	}
	return closed.why
}

func limitError(s session) error {
	return fmt.Errorf("the peer sent more than %d routes, so the session is closed and stays so; announce fewer there, "+
		"then change maxPrefixes of the BGPPeer or restart felix", s.MaxPrefixes)
}
