package process

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fleet is a simulation of peers. Each connects some time after it was let in, and hostile ones end the child at once then.
type fleet struct {
	suspects
	now     time.Time
	peers   []string
	delay   map[string]time.Duration // from the admission to the session; negative: never
	hostile map[string]bool
	patient map[string]time.Duration // how long a hostile one waits in its session; 0: it does not
	once    bool                     // it waits only the first time
	let     map[string]time.Time     // peers that the present child has, and since when
	up      map[string]time.Time
	ends    int
}

// newFleet returns n peers. Each connects within ten seconds, or never: one of so many is down.
func newFleet(random *rand.Rand, n, down int) *fleet {
	f := &fleet{now: time.Unix(1_800_000_000, 0), delay: map[string]time.Duration{}, hostile: map[string]bool{}}
	for i := range n {
		name := fmt.Sprintf("p%03d", i)
		f.peers = append(f.peers, name)
		f.delay[name] = time.Duration(random.IntN(10_000)) * time.Millisecond
		if random.IntN(down) == 0 {
			f.delay[name] = -1
		}
	}
	return f
}

func (f *fleet) start() { f.let, f.up = map[string]time.Time{}, map[string]time.Time{} }

// step lets a tenth of a second pass.
func (f *fleet) step() {
	f.now = f.now.Add(time.Second / 10)
	if _, restart := f.tick(f.now, f.up); restart {
		f.killed(f.now)
		f.start()
	}
	for _, name := range f.peers {
		if f.isClosed(name) || f.isWaiting(name) {
			delete(f.let, name)
			delete(f.up, name) // Apply ends it if it has no session yet
			continue
		}
		if _, there := f.let[name]; !there {
			f.let[name] = f.now
		}
		since, up := f.up[name]
		if !up && (f.delay[name] < 0 || f.now.Sub(f.let[name]) < f.delay[name]) {
			continue
		}
		if f.hostile[name] && (f.patient[name] == 0 || up && f.now.Sub(since) >= f.patient[name]) {
			f.ends++
			if f.once {
				f.patient[name] = 0
			}
			f.crashed(f.now, "panic", f.peers, f.up)
			f.start()
			return
		}
		if up {
			continue
		}
		f.up[name] = f.now
	}
}

// Peers that end the child are closed, after few ends of the child, and no other peer is closed.
func TestTheHostilePeersAreFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for run := range 300 {
		f := newFleet(random, 1+random.IntN(100), 10)
		hostile := random.IntN(min(3, len(f.peers)+1))
		for len(f.hostile) < hostile {
			name := f.peers[random.IntN(len(f.peers))]
			f.hostile[name], f.delay[name] = true, time.Duration(random.IntN(10_000))*time.Millisecond
		}
		f.start()
		waitedFor := time.Duration(0)
		for range 10 * 600 {
			f.step()
			if f.trial != nil || len(f.waiting) > 0 {
				waitedFor += time.Second / 10
			}
			if len(f.closed) == hostile && f.trial == nil {
				break
			}
		}
		for _, name := range f.peers {
			if f.isClosed(name) != f.hostile[name] {
				t.Fatalf("seed %d, run %d: of %d peers %v are hostile, and closed are %v", seed, run, len(f.peers), f.hostile, f.closed)
			}
		}
		if most := 1 + hostile*(2+bits.Len(uint(len(f.peers)))); f.ends > most {
			t.Errorf("seed %d, run %d: %d ends for %d hostile ones of %d peers, want at most %d", seed, run, f.ends, hostile, len(f.peers), most)
		}
		if most := 10 * time.Minute; waitedFor > most {
			t.Errorf("seed %d, run %d: %v of trials", seed, run, waitedFor)
		}
	}
}

// Hostile peers that connect long after all others, among peers that are down, are found too.
func TestSlowHostilePeersAreFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for run := range 50 {
		f := newFleet(random, 4+random.IntN(12), 3)
		for range 1 + random.IntN(2) {
			name := f.peers[random.IntN(len(f.peers))]
			f.hostile[name], f.delay[name] = true, time.Duration(random.IntN(80_000))*time.Millisecond
		}
		f.start()
		found := map[string]bool{}
		for began := f.now; f.now.Sub(began) < time.Hour && len(found) < len(f.hostile); f.step() {
			for name := range f.closed {
				found[name] = true
				if !f.hostile[name] {
					t.Fatalf("seed %d, run %d: of %v %v are hostile, and closed are %v", seed, run, f.delay, f.hostile, f.closed)
				}
			}
		}
		if len(found) < len(f.hostile) || f.ends > 50 {
			t.Errorf("seed %d, run %d: after %d ends closed are %v, hostile %v of %v", seed, run, f.ends, f.closed, f.hostile, f.delay)
		}
	}
}

// A peer that knows the search and waits before it ends the child is found too, and no other peer is closed in its place.
func TestAPeerThatWaitsIsFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for run := range 100 {
		f := newFleet(random, 2+random.IntN(8), 4)
		f.once = run%2 == 0
		culprit := f.peers[random.IntN(len(f.peers))]
		f.hostile[culprit], f.delay[culprit] = true, time.Second
		f.patient = map[string]time.Duration{culprit: time.Duration(random.IntN(50_000)) * time.Millisecond}
		f.start()
		for began := f.now; f.now.Sub(began) < 2*time.Hour && len(f.closed) == 0; {
			f.step()
		}
		if len(f.closed) != 1 || !f.isClosed(culprit) || f.ends > 40 {
			t.Fatalf("seed %d, run %d: after %d ends closed are %v; hostile is %s with %v of %v", seed, run, f.ends, f.closed, culprit, f.patient, f.delay)
		}
	}
}

func TestASlowHostilePeerIsFound(t *testing.T) {
	t.Parallel()
	f := &fleet{
		now: time.Unix(1_800_000_000, 0), peers: []string{"a", "b", "hostile"}, hostile: map[string]bool{"hostile": true},
		delay: map[string]time.Duration{"a": time.Second, "b": 2 * time.Second, "hostile": 80 * time.Second},
	}
	f.start()
	for range 10 * 1200 {
		if f.step(); len(f.closed) > 0 {
			break
		}
	}
	if len(f.closed) != 1 || !f.isClosed("hostile") || f.ends > 8 {
		t.Errorf("after %d ends these are closed: %v", f.ends, f.closed)
	}
}

// A closed peer gets another chance, which costs one end of the child, and then stays closed for longer.
func TestAClosedPeerIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := &fleet{
		now: time.Unix(1_800_000_000, 0), peers: []string{"a", "hostile"}, hostile: map[string]bool{"hostile": true},
		delay: map[string]time.Duration{"a": time.Second, "hostile": time.Second},
	}
	f.start()
	began := f.now
	for f.now.Sub(began) < 12*time.Hour {
		f.step()
	}
	if f.ends < 12 || f.ends > 60 {
		t.Errorf("%d ends in 12 hours", f.ends)
	}
	f.hostile = nil
	for f.now.Sub(began) < 14*time.Hour {
		f.step()
	}
	if len(f.closed) > 0 || !slices.Contains(f.peers, "hostile") || f.up["hostile"].IsZero() {
		t.Errorf("the peer is mended, and closed are %v", f.closed)
	}
}

// One end of the child by itself makes nobody suspect.
func TestASingleEndClosesNobody(t *testing.T) {
	t.Parallel()
	var s suspects
	now := time.Unix(1_800_000_000, 0)
	for range 3 {
		now = now.Add(time.Hour)
		s.crashed(now, "killed", []string{"a", "b"}, map[string]time.Time{"a": now.Add(-time.Second)})
		if len(s.closed) > 0 || s.trial != nil || len(s.waiting) > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// If every peer has proven itself, one of them has lied: all are suspects, but for those that are closed.
func TestAllPeersAreSuspectsIfEachHasProvenItself(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	long := now.Add(-time.Hour)
	for _, row := range []struct {
		name   string
		up     map[string]time.Time
		closed []string
		want   []string
	}{
		{"one is down", map[string]time.Time{"a": long, "b": long}, nil, []string{"c"}},
		{"one is new", map[string]time.Time{"a": long, "b": now.Add(time.Millisecond - firstProof), "c": long}, nil, []string{"b"}},
		{"all are proven", map[string]time.Time{"a": long, "b": now.Add(-firstProof), "c": long}, nil, []string{"a", "b", "c"}},
		{"all but a closed one", map[string]time.Time{"a": long, "c": long}, []string{"b"}, []string{"a", "c"}},
	} {
		var s suspects
		for _, name := range row.closed {
			s.close(name, now, "panic")
		}
		if got := s.unproven(now, []string{"a", "b", "c"}, row.up); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// A peer whose session comes up again and again never proves itself. It does not hold up the others for ever.
func TestATrialEndsAlthoughAPeerIsStillUnproven(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	s := suspects{trial: []string{"a"}, waiting: [][]string{{"b", "c"}}, length: firstTrial, until: now}
	step := func(after time.Duration) bool {
		at := now.Add(after)
		changed, _ := s.tick(at, map[string]time.Time{"a": at.Add(-time.Second)})
		return changed
	}
	for _, after := range []time.Duration{time.Second, lastTrial / 2, lastTrial} {
		if step(after) {
			t.Fatalf("the trial has ended %v after its time, although its peer may prove itself soon", after)
		}
	}
	if !step(lastTrial+time.Second) || !slices.Equal(s.trial, []string{"b", "c"}) || !slices.Equal(s.absent, []string{"a"}) || !s.isWaiting("a") {
		t.Errorf("%+v", s)
	}
}

// Trials are as long as decided: twice as long after each search that found nobody, up to the last.
func TestSearchesThatFindNobodyTakeLonger(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var s suspects
	s.crashed(now, "panic", []string{"a"}, nil)
	var lengths []string
	for range 5 {
		now = now.Add(time.Minute)
		s.trial, s.waiting = nil, nil // it has found nobody
		s.crashed(now, "panic", []string{"a"}, nil)
		lengths = append(lengths, s.until.Sub(now).String())
	}
	if got, want := fmt.Sprint(lengths), "[15s 30s 1m0s 1m30s 1m30s]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.trial, s.waiting = nil, nil
	s.crashed(now.Add(soon), "panic", []string{"a"}, nil)
	if s.trial != nil || s.length != 0 {
		t.Errorf("a panic after a long time: %+v", s)
	}
}

// Peers that are not wanted any more are not tried, and nobody is closed in their place.
func TestPeersThatAreGoneAreNotTried(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		name         string
		trial, peers []string
		waiting      [][]string // trials after it
		want         [][]string // trials from now on
		closed       string
	}{
		{name: "one of two", trial: []string{"a", "gone"}, peers: []string{"a", "b"}, want: [][]string{{"a"}}},
		{name: "two of four", trial: []string{"a", "gone", "b", "gone2"}, peers: []string{"a", "b"}, want: [][]string{{"a"}, {"b"}}},
		{name: "all", trial: []string{"gone", "gone2"}, waiting: [][]string{{"b"}}, peers: []string{"a", "b"}, want: [][]string{{"b"}}},
		{name: "the only one", trial: []string{"gone"}, peers: []string{"a", "b"}},
		{name: "none", trial: []string{"a"}, peers: []string{"a", "b"}, closed: "a"},
	} {
		s := suspects{trial: row.trial, waiting: row.waiting, length: firstTrial, ended: now.Add(-time.Second)}
		s.crashed(now, "panic", row.peers, nil)
		got := s.waiting
		if s.trial != nil {
			got = append([][]string{s.trial}, s.waiting...)
		}
		if fmt.Sprint(got) != fmt.Sprint(row.want) || s.isClosed(row.closed) != (row.closed != "") || row.closed == "" && len(s.closed) > 0 {
			t.Errorf("%s: trials %v, want %v; closed %v, want %q", row.name, got, row.want, s.closed, row.closed)
		}
	}
}
