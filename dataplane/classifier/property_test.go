package classifier

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random states; 0: another one each time")
	rounds   = flag.Int("rounds", 1, "multiplies the random states")
)

// random returns a source for a subtest, and says how to repeat it.
func random(t *testing.T, i int) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	seed += uint64(i)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with -seed %d -run '%s'", seed, t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

func TestLookupAgreesWithJudgeOnRandomStates(t *testing.T) {
	t.Parallel()
	closed, judged := 0, 0
	for i := range 300 * *rounds {
		r := random(t, i)
		n := newNode(t, small)
		n.become(t, classifiertest.RandomState(r, classifiertest.Options{}))
		closed += n.check(t, r, 60)
		judged += 60 * len(n.state.Endpoints) * layout.Stages
	}
	t.Logf("%d verdicts, %d endpoints closed because of too many continuations", judged, closed)
}

func TestLookupAgreesWithJudgeThroughRandomHistories(t *testing.T) {
	t.Parallel()
	for i := range 60 * *rounds {
		r := random(t, i)
		n := newNode(t, small)
		o := classifiertest.Options{}
		n.become(t, classifiertest.RandomState(r, o))
		for range 20 {
			step(t, r, n, classifiertest.Change(r, n.state, o))
			if t.Failed() {
				return
			}
		}
	}
}

// Larger states spread over several blocks of slots.
func TestLookupAgreesWithJudgeOnLargeStates(t *testing.T) {
	t.Parallel()
	o := classifiertest.Options{Policies: 60, Rules: 40, Sets: 12, Endpoints: 6, Rare: 400}
	for i := range 4 * *rounds {
		r := random(t, i)
		n := newNode(t, Sizes{Blocks: 4, Vectors: 20000, Chunks: 60000, Hosts: 1000, Nets: 1000})
		n.become(t, classifiertest.RandomState(r, o))
		for range 5 {
			step(t, r, n, classifiertest.Change(r, n.state, o))
		}
		slots, use := n.Use()
		closed := n.check(t, r, 20)
		t.Logf("%d slots, %d vectors, %d chunks, %d of %d endpoints closed",
			slots, use.Vectors, use.Chunks, closed, len(n.state.Endpoints))
	}
}

// held is a packet in the middle of the program: it has its mask and its vectors.
type held struct {
	id     calc.EndpointID
	stage  int
	packet calc.Packet
	masks  Masks
	dims   dims
	state  *calc.State
	until  uint64 // the round whose grace period waits for it
}

// step makes one change and judges packets at every moment of it.
func step(t *testing.T, r *rand.Rand, n *node, next *calc.State) {
	t.Helper()
	from := n.state
	n.enter(r)
	n.hook = func(p netip.Prefix) { between(t, r, n, from, next, p) }
	commit, err := n.Apply(classifiertest.Diff(from, next))
	if err != nil {
		t.Fatal(err)
	}
	between(t, r, n, from, next, anywhere)
	n.continued(t)
	for id, m := range commit.Endpoints {
		n.entries[id] = m
		between(t, r, n, from, next, anywhere)
	}
	n.flip(commit)
	round := n.Sweep()
	for i := range n.passing {
		if n.passing[i].until == 0 {
			n.passing[i].until = round
		}
	}
	n.continued(t)
	n.hook = func(p netip.Prefix) { between(t, r, n, next, next, p) }
	n.state = next
	n.check(t, r, 10)
	if r.IntN(3) > 0 {
		grace := round - min(round, r.Uint64N(3)) // perhaps the round of an earlier change
		n.passing = slices.DeleteFunc(n.passing, func(h held) bool { return h.until <= grace })
		if err := n.Reuse(grace); err != nil {
			t.Fatal(err)
		}
		n.check(t, r, 10)
		n.continued(t)
	}
}

// enter lets some packets read masks and vectors.
func (n *node) enter(r *rand.Rand) {
	for id := range n.state.Endpoints {
		for range 3 {
			p := classifiertest.RandomPacket(r, n.state)
			h := held{id: id, stage: r.IntN(layout.Stages), packet: p, masks: n.entries[id], state: n.state}
			h.dims = n.view().classify(p)
			n.passing = append(n.passing, h)
		}
	}
}

// continued checks that these packets still get the verdict of the state in which they began.
func (n *node) continued(t *testing.T) {
	t.Helper()
	for _, h := range n.passing {
		got := func(mask uint32) Result { return n.view().follow(mask, h.dims) }
		if err := n.compare(h.masks, got, h.state, h.id, h.stage, h.packet); err != nil {
			t.Fatalf("in the middle of the program: %v stage %d %+v: %v", h.id, h.stage, h.packet, err)
		}
	}
}

var anywhere netip.Prefix

// between checks that packets get the verdict of the old state or the new one, each as a whole. Near says where
// addresses have just moved.
func between(t *testing.T, r *rand.Rand, n *node, from, to *calc.State, near netip.Prefix) {
	t.Helper()
	for id, m := range n.entries {
		p := classifiertest.RandomPacket(r, from)
		if r.IntN(2) == 0 {
			p = classifiertest.RandomPacket(r, to)
		}
		if near.IsValid() {
			other := classifiertest.AddressIn(r, near)
			if r.IntN(2) == 0 && p.Destination.Is4() == other.Is4() {
				p.Source = other
			} else if p.Source.Is4() == other.Is4() {
				p.Destination = other
			}
		}
		stage := r.IntN(layout.Stages)
		got := func(mask uint32) Result { return n.view().Verdict(mask, p) }
		if err := n.compare(m, got, from, id, stage, p); err == nil {
			continue
		}
		if err := n.compare(m, got, to, id, stage, p); err != nil {
			t.Fatalf("between: %v stage %d %+v: %v", id, stage, p, err)
		}
	}
}
