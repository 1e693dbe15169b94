package classifier

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

var small = Sizes{Blocks: 1, Vectors: 3000, Chunks: 3000, Hosts: 1000, Nets: 1000}

var medium = Sizes{Blocks: 1, Vectors: 3000, Chunks: 3000, Hosts: 4000, Nets: 1000}

// node is a classifier with the tables and interface entries around it.
type node struct {
	*Classifier
	*Image
	state   *calc.State
	entries map[calc.EndpointID]Masks
	hook    func(netip.Prefix) // after each write to the tables
	fail    func() bool        // says whether a write to the tables fails
	passing []held             // packets in the middle of the program
}

func newNode(t testing.TB, s Sizes) *node {
	t.Helper()
	n := &node{Image: NewImage(), state: &calc.State{}, entries: map[calc.EndpointID]Masks{}}
	n.hook, n.fail = func(netip.Prefix) {}, func() bool { return false }
	c, err := New(NewMemory(s), s, n)
	if err != nil {
		t.Fatal(err)
	}
	n.Classifier = c
	return n
}

var errInjected = fmt.Errorf("injected")

func (n *node) write(p netip.Prefix, f func() error) error {
	if n.fail() {
		return errInjected
	}
	err := f()
	n.hook(p)
	return err
}

func (n *node) PutHost(a netip.Addr, source, dest uint32) error {
	return n.write(netip.PrefixFrom(a, a.BitLen()), func() error { return n.Image.PutHost(a, source, dest) })
}

func (n *node) DeleteHost(a netip.Addr) error {
	return n.write(netip.PrefixFrom(a, a.BitLen()), func() error { return n.Image.DeleteHost(a) })
}

func (n *node) PutNet(p netip.Prefix, source, dest uint32) error {
	return n.write(p, func() error { return n.Image.PutNet(p, source, dest) })
}

func (n *node) DeleteNet(p netip.Prefix) error {
	return n.write(p, func() error { return n.Image.DeleteNet(p) })
}

func (n *node) view() Searcher { return Searcher{Memory: n.mem, Addresses: n.Image} }

// flip writes the entries of a commit.
func (n *node) flip(c Commit) {
	for id, m := range c.Endpoints {
		n.entries[id] = m
	}
	for _, id := range c.Gone {
		delete(n.entries, id)
	}
}

// become applies a state, and all steps of the change.
func (n *node) become(t testing.TB, s *calc.State) {
	t.Helper()
	commit, err := n.Apply(classifiertest.Diff(n.state, s))
	if err != nil {
		t.Fatal(err)
	}
	n.flip(commit)
	n.state = s
	if err := n.Reuse(n.Sweep()); err != nil {
		t.Fatal(err)
	}
}

// sameVerdict compares the verdict of the tables with that of calc.Judge.
func sameVerdict(got Result, want calc.Verdict) error {
	if got.Lost {
		return fmt.Errorf("lost")
	}
	if got.Action != want.Action {
		return fmt.Errorf("%q, want %q by %v", got.Action, want.Action, want.Rule)
	}
	if want.Action != "" && got.Rule != want.Rule.Hash() {
		return fmt.Errorf("%s by another rule than %v", got.Action, want.Rule)
	}
	var passed []uint64
	for _, id := range want.Passed {
		if id.Policy.Kind != api.KindTier { // the end of a tier that passes has no slot
			passed = append(passed, id.Hash())
		}
	}
	if fmt.Sprint(got.Passed) != fmt.Sprint(passed) {
		return fmt.Errorf("passed by %v, want %v", got.Passed, want.Passed)
	}
	return nil
}

// closedVerdict is the verdict of an endpoint that the classifier had to close.
func closedVerdict(got Result, want calc.Verdict) error {
	if got.Action == api.Allow && want.Rule.Policy.Kind != calc.KindFailsafe {
		return fmt.Errorf("allowed although closed")
	}
	return nil
}

func (n *node) compare(
	m Masks, got func(mask uint32) Result, s *calc.State, id calc.EndpointID, stage int, p calc.Packet,
) error {
	want := calc.Judge(s, id, stages[stage].stage, stages[stage].dir, p)
	if m.Closed != "" {
		return closedVerdict(got(m.Mask[stage]), want)
	}
	return sameVerdict(got(m.Mask[stage]), want)
}

// check compares packets at every endpoint and stage.
func (n *node) check(t testing.TB, r *rand.Rand, packets int) (closed int) {
	t.Helper()
	for id := range n.state.Endpoints {
		m, known := n.entries[id]
		if !known {
			t.Fatalf("%v has no entry", id)
		}
		if again, _ := n.Masks(id); again != m {
			t.Fatalf("%v has %+v, was given %+v", id, again, m)
		}
		if m.Closed != "" {
			closed++
		}
		for _, v := range m.Mask {
			if n.vectors.numbers.allocated[v/64]&(1<<(v%64)) == 0 {
				t.Fatalf("%v has mask %d, which is free", id, v)
			}
		}
		for range packets {
			p := classifiertest.RandomPacket(r, n.state)
			for stage := range layout.Stages {
				err := n.compare(m, func(mask uint32) Result { return n.view().Verdict(mask, p) }, n.state, id, stage, p)
				if err != nil {
					t.Fatalf("%v stage %d %+v: %v", id, stage, p, err)
				}
			}
		}
	}
	return closed
}
