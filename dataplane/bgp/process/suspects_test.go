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
