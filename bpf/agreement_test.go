package bpf_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/calc/calctest"
	"github.com/margay-project/margay/dataplane/classifier"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

var (
	seed     = flag.Uint64("seed", 0, "seed of the random rule sets and packets; 0: another one each time")
	ruleSets = flag.Int("rulesets", 1000, "number of random rule sets")
)

// twin is a classifier whose tables are in the kernel and, as the Go lookup needs them, in ordinary memory.
type twin struct {
	*bpf.Generation
	*classifier.Classifier
	measure *bpf.Measure
	ifindex uint32
	image   *classifier.Image
	mem     *classifier.Memory
	masks   map[calc.EndpointID]classifier.Masks
	state   *calc.State
}

func (w *twin) PutHost(a netip.Addr, source, dest uint32) error {
	return errors.Join(w.image.PutHost(a, source, dest), w.Generation.PutHost(a, source, dest))
}

func (w *twin) DeleteHost(a netip.Addr) error {
	return errors.Join(w.image.DeleteHost(a), w.Generation.DeleteHost(a))
}

func (w *twin) PutNet(p netip.Prefix, source, dest uint32) error {
	return errors.Join(w.image.PutNet(p, source, dest), w.Generation.PutNet(p, source, dest))
}

func (w *twin) DeleteNet(p netip.Prefix) error {
	return errors.Join(w.image.DeleteNet(p), w.Generation.DeleteNet(p))
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	sizes := classifier.Sizes{Blocks: 2, Vectors: 8000, Chunks: 24000, Hosts: 4000, Nets: 4000}
	g, ifindex := bpf.TracedGeneration(t, bpf.Sizes{
		Blocks: uint32(sizes.Blocks), Vectors: uint32(sizes.Vectors), Chunks: uint32(sizes.Chunks),
		Hosts: uint32(sizes.Hosts), Nets: uint32(sizes.Nets), Interfaces: 16, Sources: 16,
	})
	w := &twin{
		Generation: g, measure: bpf.NewMeasure(t, g), ifindex: ifindex,
		image: classifier.NewImage(), state: &calc.State{}, masks: map[calc.EndpointID]classifier.Masks{},
	}
	w.mem = &classifier.Memory{
		Slots: g.Slots, Vectors: g.Vectors, Chunks: g.Chunks, Wild: g.Wild,
		Services: g.Services, SourcePorts: g.SourcePorts, Blocks: sizes.Blocks,
	}
	var err error
	if w.Classifier, err = classifier.New(w.mem, sizes, w); err != nil {
		t.Fatal(err)
	}
	return w
}

// become brings another rule set into the same tables.
func (w *twin) become(t *testing.T, s *calc.State) {
	t.Helper()
	commit, err := w.Apply(classifiertest.Diff(w.state, s))
	if err != nil {
		t.Fatal(err)
	}
	for id, m := range commit.Endpoints {
		w.masks[id] = m
	}
	for _, id := range commit.Gone {
		delete(w.masks, id)
	}
	w.state = s
	if err := w.Reuse(w.Classifier.Sweep()); err != nil {
		t.Fatal(err)
	}
}

// situation is the hook, interface and stage with which the program judges a packet by the policy of a certain stage.
type situation struct {
	stage    int // whose policy
	of       calc.Stage
	dir      calc.Direction
	at       int // the stage at which the program asks for it
	hook     bpf.Hook
	inner    uint32
	workload bool
	bridged  bool
}

func situations() []situation {
	return []situation{
		{layout.StageNormalIn, calc.Normal, calc.Ingress, layout.StageNormalIn, bpf.Egress, 77, true, false},
		{layout.StageNormalOut, calc.Normal, calc.Egress, layout.StageNormalOut, bpf.Ingress, 0, true, false},
		{layout.StageNormalIn, calc.Normal, calc.Ingress, layout.StageNormalIn, bpf.Egress, 77, true, true},
		{layout.StageNormalOut, calc.Normal, calc.Egress, layout.StageNormalOut, bpf.Ingress, 0, true, true},
		{layout.StageNormalIn, calc.Normal, calc.Ingress, layout.StageNormalIn, bpf.Ingress, 0, false, false},
		{layout.StageNormalOut, calc.Normal, calc.Egress, layout.StageNormalOut, bpf.Egress, 0, false, false},
		{layout.StageForwardIn, calc.Forward, calc.Ingress, layout.StageForwardIn, bpf.Ingress, 0, false, false},
		{layout.StageForwardOut, calc.Forward, calc.Egress, layout.StageForwardOut, bpf.Egress, 77, false, false},
		{layout.StagePreDNATIn, calc.PreDNAT, calc.Ingress, layout.StagePreDNATIn, bpf.Ingress, 0, false, false},
		{layout.StageUntrackedIn, calc.Untracked, calc.Ingress, layout.StageUntrackedIn, bpf.Ingress, 0, false, false},
		{layout.StageUntrackedOut, calc.Untracked, calc.Egress, layout.StageUntrackedOut, bpf.Egress, 0, false, false},
	}
}

// iface is an interface with an endpoint's mask at one stage only, so that nothing else decides.
func (s situation) iface(ifindex uint32, m classifier.Masks) layout.Iface {
	i := layout.Iface{Endpoint: 7, Ifindex: ifindex}
	i.Mask[s.at] = m.Mask[s.stage]
	if s.workload {
		i.Flags = layout.IfaceWorkload | layout.IfaceToHost | layout.IfaceAllowIPIP | layout.IfaceAllowVXLAN
		if s.bridged {
			i.Flags |= layout.IfaceBridged
		}
	} else if s.at == layout.StageNormalIn {
		i.Mask[layout.StageForwardIn] = m.Mask[s.stage] // or packets to this host alone would be judged
	}
	return i
}

// forPacket is the situation for a packet: this one, or if something else than policy decides about the packet here, another one
// that judges by the same policy.
func (s situation) forPacket(q calc.Packet) situation {
	switch {
	case s.workload && s.hook == bpf.Ingress && isOfLink(q):
		s.hook, s.workload, s.bridged = bpf.Egress, false, false
	case s.at == layout.StageForwardIn && isKept(q):
		s.at, s.hook, s.inner = layout.StageForwardOut, bpf.Egress, 77
	}
	return s
}

// isOfLink says whether a workload may send a packet to its neighbours only, or to nobody.
func isOfLink(q calc.Packet) bool {
	if q.Source.Is4() {
		return q.Protocol == 1 && q.ICMPType == 5
	}
	return q.Protocol == 58 && (q.ICMPType >= 130 && q.ICMPType <= 137 || q.ICMPType == 143)
}

// isKept says whether the host keeps a packet in any case, without a look at its routes.
func isKept(q calc.Packet) bool {
	if q.Source.Is4() {
		return q.Destination.IsMulticast() || q.Destination == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	for _, a := range []netip.Addr{q.Source, q.Destination} {
		if a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// seen is a packet as rules see it: behind the extension headers of IPv6.
func seen(q calc.Packet) calc.Packet {
	if q.Source.Is6() {
		switch q.Protocol {
		case 0, 43, 44, 51, 60:
			q.Protocol = bpf.NoNextHeader
		}
	}
	return q
}

// TestThreeJudgesAgree asks the definition, the lookup in Go and the program in the kernel about the same packets:
// they must give the same verdict by the same rule.
func TestThreeJudgesAgree(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	r := rand.New(rand.NewPCG(*seed, 1))
	w := newTwin(t)
	packets, decided := 0, map[api.Action]int{}
	for n := range *ruleSets {
		w.become(t, classifiertest.RandomState(r, classifiertest.Options{}))
		for id := range w.state.Endpoints {
			m := w.masks[id]
			if m.Closed != "" {
				continue
			}
			for _, s := range situations() {
				packets += w.ask(t, r, id, m, s, decided)
				if t.Failed() {
					t.Fatalf("rule set %d; repeat with -seed %d", n, *seed)
				}
			}
		}
	}
	t.Logf("%d packets over %d rule sets: %v", packets, *ruleSets, decided)
	if *ruleSets >= 1000 && packets < 100_000 {
		t.Errorf("only %d packets", packets)
	}
}

const packetsInASituation = 6

func (w *twin) ask(t *testing.T, r *rand.Rand, id calc.EndpointID, m classifier.Masks, s situation, decided map[api.Action]int) (n int) {
	t.Helper()
	for range packetsInASituation {
		decided[w.askOne(t, id, m, s, classifiertest.RandomPacket(r, w.state))]++
		n++
	}
	return n
}

// askOne compares the three judges' verdicts on one packet and returns that of the definition. All three are asked about each
// packet: where something comes before policy, the program is asked in another situation.
func (w *twin) askOne(t *testing.T, id calc.EndpointID, m classifier.Masks, s situation, q calc.Packet) api.Action {
	t.Helper()
	want := calc.Judge(w.state, id, s.of, s.dir, q)
	lookup := classifier.Searcher{Memory: w.mem, Addresses: w.image}.Verdict(m.Mask[s.stage], q)
	if lookup.Action != want.Action || want.Action != "" && lookup.Rule != want.Rule.Hash() {
		t.Errorf("lookup: %+v, want %+v\n%+v", lookup, want, q)
	}
	if err := w.classify(m.Mask[s.stage], q, want); err != nil {
		t.Errorf("classifier in the kernel: %v\n%+v", err, q)
	}
	if s = s.forPacket(q); seen(q) != q {
		want = calc.Judge(w.state, id, s.of, s.dir, seen(q))
	}
	if err := w.run(s, m, q, want); err != nil {
		t.Errorf("kernel: %v\n%+v at %+v of %v", err, q, s, id)
	}
	return want.Action
}

// TestThreeJudgesAgreeOnRecordedPackets asks the same about the packets whose verdicts were recorded from the reference
// implementation; calc's own test compares the definition with these verdicts.
func TestThreeJudgesAgreeOnRecordedPackets(t *testing.T) {
	w := newTwin(t)
	for _, corpus := range []string{"policy", "hostpolicy"} {
		scenarios, err := calctest.Scenarios(corpus)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		for _, s := range scenarios {
			asked += w.askScenario(t, s)
			if t.Failed() {
				t.Fatalf("scenario %s", s.ID)
			}
		}
		t.Logf("%s: %d questions about the packets of %d scenarios", corpus, asked, len(scenarios))
		if asked < len(scenarios) {
			t.Errorf("%s: only %d questions", corpus, asked)
		}
	}
}

func (w *twin) askScenario(t *testing.T, s calctest.Scenario) (asked int) {
	t.Helper()
	byNode := map[string][]calctest.Probe{}
	for _, p := range s.Probes {
		node, _, _ := strings.Cut(p.Endpoint, "-")
		byNode[node] = append(byNode[node], p)
	}
	for node, probes := range byNode {
		w.become(t, calc.Compute(node, calc.Facts{}, s.Updates))
		for _, probe := range probes {
			id := calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: probe.Namespace, Name: probe.Endpoint}
			if probe.Path != "" {
				id.Kind = "HostEndpoint"
			}
			q := calc.Packet{
				Source: probe.Src, Destination: probe.Dst, Protocol: probe.Protocol,
				SourcePort: probe.SrcPort, DestinationPort: probe.DstPort, ICMPType: probe.ICMPType, ICMPCode: probe.ICMPCode,
			}
			before := asked
			for _, at := range situations() {
				if at.workload == (probe.Path == "") && at.dir.String() == probe.Direction {
					w.askOne(t, id, w.masks[id], at, q)
					asked++
				}
			}
			if asked == before {
				t.Errorf("nobody was asked about %+v", probe)
			}
		}
	}
	return asked
}

// run has the kernel judge a packet and compares.
func (w *twin) run(s situation, m classifier.Masks, q calc.Packet, want calc.Verdict) error {
	if err := w.Interfaces.Put(w.ifindex, s.iface(w.ifindex, m)); err != nil {
		return err
	}
	if s.workload && s.hook == bpf.Ingress {
		own := layout.SourceKey{Ifindex: w.ifindex, Addr: bpf.Address(q.Source)}
		if err := w.Sources.Put(own, 1); err != nil {
			return err
		}
		defer w.Sources.Delete(own)
	}
	if s.bridged && s.hook == bpf.Egress { // a frame for another station would be dropped before
		own := layout.SourceKey{Ifindex: w.ifindex, Addr: bpf.Address(q.Destination)}
		if err := w.Sources.Put(own, 1); err != nil {
			return err
		}
		defer w.Sources.Delete(own)
	}
	got, err := w.Run(bpf.Run{
		Hook: s.hook, Ifindex: w.ifindex, Inner: s.inner,
		Packet: bpf.Frame(q.Source, q.Destination, q.Protocol, q.SourcePort, q.DestinationPort, q.ICMPType, q.ICMPCode),
	})
	if err != nil {
		return err
	}
	rule := uint64(0)
	if want.Action != "" {
		rule = want.Rule.Hash()
	}
	if got.Allowed == (want.Action == api.Deny) || got.Rule != rule {
		return fmt.Errorf("%+v, want %+v (rule %d)", got, want, rule)
	}
	if tracked := s.at <= layout.StageForwardOut; tracked && m.Mask[s.stage] != 0 && got.Stage != s.at {
		return fmt.Errorf("%+v, want it judged at stage %d", got, s.at)
	}
	return nil
}

// classify asks the kernel about the mask alone.
func (w *twin) classify(mask uint32, q calc.Packet, want calc.Verdict) error {
	got, rule, err := w.measure.Classify(mask, bpf.Query{
		Source: q.Source, Dest: q.Destination, Proto: q.Protocol, SourcePort: q.SourcePort, DestPort: q.DestinationPort,
		ICMPType: q.ICMPType, ICMPCode: q.ICMPCode,
	})
	if err != nil {
		return err
	}
	expected, by := bpf.Undecided, uint64(0)
	if want.Action != "" {
		expected, by = map[api.Action]bpf.Judgement{api.Allow: bpf.JudgedAllow, api.Deny: bpf.JudgedDeny}[want.Action], want.Rule.Hash()
	}
	if got != expected || rule != by {
		return fmt.Errorf("%v by %d, want %+v (rule %d)", got, rule, want, by)
	}
	return nil
}
