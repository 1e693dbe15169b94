package process

import (
	"slices"
	"time"
)

const (
	// A child that ends within this time after another one did not end by chance.
	soon = 5 * time.Minute
	// A peer whose session has been up for this long has sent its routes, so another one is tried first. In longer trials it takes two
	// thirds of their length.
	firstProof = 10 * time.Second
	// A peer that has not proven itself after this time does not hold up others any longer: it may be down. If the child ends again after
	// all have been tried, the time doubles up to the last. Other peers keep this node's routes for 120 s, the restart time.
	firstTrial = 15 * time.Second
	lastTrial  = 90 * time.Second
	// A peer that has ended the child stays closed for this long. The time doubles up to the last.
	firstClosing = 5 * time.Minute
	lastClosing  = time.Hour
)

// suspects finds the peer whose messages end the child. It lets peers in by halves: the half that ends the child is divided again. A peer
// that is left is tried alone, and closed only if it ends the child then. If nobody does, all are let in, and the next search takes longer.
type suspects struct {
	ended   time.Time                // the last child ended then, by a panic
	why     string                   // the last child panicked
	trial   []string                 // peers that were let in last, a single one without any other; nil: no trial, all are let in
	until   time.Time                // the trial ends
	length  time.Duration            // of trials
	waiting [][]string               // peers that are let in after it, by trials
	absent  []string                 // peers that did not prove themselves in their trial; they are let in after all trials
	closed  map[string]closing       // by peer
	times   map[string]time.Duration // how long each peer was closed last
}

type closing struct {
	until time.Time
	why   string
}

// crashed notes that the child has ended. peers are all that are wanted, up those whose session was up, and since when.
func (s *suspects) crashed(now time.Time, why string, peers []string, up map[string]time.Time) {
	among := s.trial
	switch {
	case among != nil:
	case now.Sub(s.ended) < soon:
		s.length = min(max(2*s.length, firstTrial), lastTrial)
		among = s.unproven(now, peers, up)
	default:
		s.length = 0
	}
	s.ended, s.why = now, why
	alone := len(s.trial) == 1
	among = slices.DeleteFunc(slices.Clone(among), func(name string) bool { return !slices.Contains(peers, name) })
	switch half := len(among) / 2; {
	case len(among) == 0: // no trial yet, or its peers are gone
	case alone:
		s.close(among[0], now, why)
	case half == 0:
		s.waiting = append([][]string{among}, s.waiting...)
	default:
		s.waiting = append([][]string{among[:half], among[half:]}, s.waiting...)
	}
	s.next(now)
}

// killed notes that the child has ended without a fault of any peer. The present trial begins again.
func (s *suspects) killed(now time.Time) { s.until = now.Add(s.length) }

func (s *suspects) proof() time.Duration { return max(firstProof, s.length*2/3) }

// unproven returns the peers that may have ended the child: all, if each of them has proven itself.
func (s *suspects) unproven(now time.Time, peers []string, up map[string]time.Time) []string {
	var list []string
	for _, name := range peers {
		if since, yes := up[name]; !s.isClosed(name) && (!yes || now.Sub(since) < s.proof()) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return slices.DeleteFunc(slices.Clone(peers), s.isClosed)
	}
	return list
}

func (s *suspects) isClosed(name string) bool {
	_, yes := s.closed[name]
	return yes
}

func (s *suspects) close(name string, now time.Time, why string) {
	if s.closed == nil {
		s.closed, s.times = map[string]closing{}, map[string]time.Duration{}
	}
	s.times[name] = min(max(2*s.times[name], firstClosing), lastClosing)
	s.closed[name] = closing{now.Add(s.times[name]), why}
}

// next begins the next trial. After the last one, all are let in.
func (s *suspects) next(now time.Time) {
	if len(s.waiting) == 0 {
		s.trial, s.absent = nil, nil
		return
	}
	s.trial, s.waiting, s.until = s.waiting[0], s.waiting[1:], now.Add(s.length)
}

// tick ends a trial whose peers have proven themselves or had their time, and lets closed peers in again. changed says that
// Apply must be called because other peers are withheld now. restart says that the child must be replaced, because others have sessions
// and the next peer is tried alone.
func (s *suspects) tick(now time.Time, up map[string]time.Time) (changed, restart bool) {
	if s.trial != nil {
		unproven := slices.DeleteFunc(slices.Clone(s.trial), func(name string) bool {
			since, yes := up[name]
			return yes && now.Sub(since) >= s.proof()
		})
		isUp := func(name string) bool { _, yes := up[name]; return yes } // it proves itself soon
		if len(unproven) == 0 || now.After(s.until) && !slices.ContainsFunc(unproven, isUp) || now.After(s.until.Add(lastTrial)) {
			s.absent = append(s.absent, unproven...)
			s.next(now)
			changed, restart = true, len(s.trial) == 1 && len(up) > 0
		}
	}
	for name, c := range s.closed {
		if s.trial == nil && now.After(c.until) {
			delete(s.closed, name)
			changed = true
		}
	}
	return changed, restart
}

// isWaiting says whether a peer is let in after the present trial.
func (s *suspects) isWaiting(name string) bool {
	has := func(trial []string) bool { return slices.Contains(trial, name) }
	return len(s.trial) == 1 && !has(s.trial) || has(s.absent) || slices.ContainsFunc(s.waiting, has)
}

// reopen lets a closed peer in again because it is another one now.
func (s *suspects) reopen(name string) {
	delete(s.closed, name)
	delete(s.times, name)
}
