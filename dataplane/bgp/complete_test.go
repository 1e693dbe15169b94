package bgp

import (
	"maps"
	"net/netip"
	"testing"
)

// awaitNews takes what a Speaker announces, and fails if it announces nothing.
func awaitNews(t *testing.T, s *Speaker, why string) (changed map[netip.Prefix][]netip.Addr, complete bool) {
	t.Helper()
	select {
	case <-s.News():
	default:
		t.Errorf("%s: no news", why)
	}
	return s.TakeLearned()
}

// The owner sweeps routes of a former process when the peers have told theirs. It must hear of that also when it is so because
// peers have gone, and it must not be woken without end.
func TestTheOwnerHearsWhenNeighboursHaveToldTheirRoutes(t *testing.T) {
	t.Parallel()
	s := newSpeaker(quiet(), Options{}, newFake())
	if _, complete := awaitNews(t, s, "new"); complete {
		t.Error("complete before the first Apply")
	}
	apply := func(without ...string) {
		t.Helper()
		n := node()
		n.Peers = maps.Clone(n.Peers)
		for _, name := range without {
			delete(n.Peers, name)
		}
		if err := s.Apply(n); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	four, six := addr("10.0.0.9"), addr("fd00::9")
	s.observe(event{Address: four, Up: true})
	s.learned.put(map[netip.Prefix][]Way{prefix("203.0.113.0/24"): {{four, four}}})
	s.learned.end([]ending{{four, true}})
	if changed, complete := awaitNews(t, s, "one of two"); complete || len(changed) != 1 {
		t.Errorf("one of two peers has told its routes: %v, complete is %v", changed, complete)
	}
	apply()
	select {
	case <-s.News():
		t.Error("news without a change")
	default:
	}
	apply("Global_fd00__9") // the other one goes
	if _, complete := awaitNews(t, s, "the other one has gone"); !complete {
		t.Error("not complete")
	}
	s.observe(event{Address: four, Up: false})
	if _, complete := awaitNews(t, s, "down"); complete {
		t.Error("complete while the session is down")
	}
	s.observe(event{Address: four, Up: true})
	s.learned.end([]ending{{four, true}})
	if _, complete := awaitNews(t, s, "up"); !complete {
		t.Error("not complete after the end of RIB")
	}
	apply() // with the other one again
	if _, complete := awaitNews(t, s, "another peer"); complete {
		t.Error("complete although a new peer has told nothing")
	}
	s.observe(event{Address: six, Up: true})
	apply("Global_fd00__9", "Global_10_0_0_9")
	if changed, complete := awaitNews(t, s, "no peers"); !complete || len(changed[prefix("203.0.113.0/24")]) != 0 {
		t.Errorf("without peers: %v, complete is %v", changed, complete)
	}
}
