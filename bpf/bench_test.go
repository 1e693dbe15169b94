package bpf

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// figure is one number of a benchmark, for programs to read.
type figure struct {
	Name   string  `json:"name"`
	Arm    string  `json:"arm"`
	N      int     `json:"n"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Better string  `json:"better"`
}

// report shows a figure, and appends it to the file that BENCH_JSON names.
func report(b *testing.B, name, arm string, n int, value time.Duration) {
	b.Helper()
	b.ReportMetric(float64(value.Nanoseconds()), arm+"-ns")
	path := os.Getenv("BENCH_JSON")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	must(b, err)
	defer f.Close()
	must(b, json.NewEncoder(f).Encode(figure{name, arm, n, float64(value.Nanoseconds()), "ns", "lower"}))
}

// thrash is memory that is touched to make the caches cold.
type thrash []byte

func newThrash() thrash { return make(thrash, 64<<20) }

func (t thrash) touch() {
	for i := 0; i < len(t); i += 64 {
		t[i]++
	}
}

// warm is the least mean time of a run among several rounds.
func warm(b *testing.B, p *ebpf.Program, packet []byte, repeat int) time.Duration {
	b.Helper()
	best := time.Hour
	for range 9 {
		_, d, err := p.Benchmark(packet, repeat, nil)
		must(b, err)
		best = min(best, d)
	}
	return best
}

// cold is the median time of one run with cold caches.
func cold(b *testing.B, p *ebpf.Program, packet []byte, caches thrash) time.Duration {
	b.Helper()
	var all []time.Duration
	for range 31 {
		caches.touch()
		_, d, err := p.Benchmark(packet, 1, nil)
		must(b, err)
		all = append(all, d)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

const warmRepeat = 300_000

// measureNet reports a program's time net of one that does nothing, warm and cold.
func measureNet(b *testing.B, m *Measure, name string, n int, p *ebpf.Program, packet []byte) {
	b.Helper()
	caches := newThrash()
	for range b.N {
		nothing := warm(b, m.Noop, packet, warmRepeat)
		report(b, name, "warm", n, warm(b, p, packet, warmRepeat)-nothing)
		nothing = cold(b, m.Noop, packet, caches)
		report(b, name, "cold", n, cold(b, p, packet, caches)-nothing)
	}
	b.ReportMetric(0, "ns/op")
}

func benchSizes() Sizes {
	return Sizes{Blocks: 4, Vectors: 40_000, Chunks: 60_000, Hosts: 1 << 17, Nets: 1024, Interfaces: 64, Sources: 64}
}

// policyOf writes n rules of a shape that do not match, and one at the end that does. The packet is a SYN from
// 11.128.0.1 to 10.0.0.2 port 5678, as in the measurements of others.
func policyOf(r *rig, shape string, n int) uint32 {
	w := newWriter(r.Generation)
	mask := w.vector()
	if shape == "sets" {
		members(r, w.host(r, netip.MustParseAddr(benchFrom)))
	}
	for i := range n {
		w.slot(mask, uint32(i), layout.Slot{Rule: uint64(i + 1), Action: layout.ActionDeny})
		switch shape {
		case "nets":
			addr := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			w.match(w.host(r, addr).Source, uint32(i))
		case "portmiss":
			w.match(w.net(r, netip.MustParsePrefix("11.0.0.0/8")).Source, uint32(i))
		case "sets":
			w.match(w.host(r, netip.MustParseAddr(benchFrom)).Source, uint32(i))
		}
		w.match(w.service(layout.ServiceTCP+1+uint32(i%1000)), uint32(i))
		w.wild(uint32(i), layout.DimDest)
		w.wild(uint32(i), layout.DimSourcePort)
	}
	w.slot(mask, uint32(n), layout.Slot{Rule: uint64(n + 1), Action: layout.ActionAllow})
	for dim := range layout.Dims {
		w.wild(uint32(n), dim)
	}
	return mask
}

// members gives 10,000 addresses the class of one, as members of the same sets.
func members(r *rig, class layout.AddressClass) {
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{11, 64, byte(i >> 8), byte(i)})
		must(r, r.Hosts.Put(Address(addr), ClassOf(addr, class.Source, class.Dest)))
	}
}

const benchFrom, benchTo = "11.128.0.1", "10.0.0.2"

func benchPacket() []byte { return tcp(benchFrom, benchTo, 31234, 5678, "S", 1, 0) }

func BenchmarkClassify(b *testing.B) {
	for _, shape := range []string{"nets", "portmiss", "sets"} {
		for _, n := range []int{1, 10, 100, 1000, 4000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", shape, n), func(b *testing.B) {
				r := newRigOf(b, benchSizes(), SharedSizes{Flows: 1024, NewFlows: 1024})
				m := NewMeasure(b, r.Generation)
				*m.probe = measureProbe{Mask: policyOf(r, shape, n), Packet: probePacket()}
				o, err := m.ClassifyOnly.Run(&ebpf.RunOptions{Data: benchPacket()})
				must(b, err)
				if o != uint32(JudgedAllow) || m.probe.Rule != uint64(n+1) {
					b.Fatalf("result %d by rule %d", o, m.probe.Rule)
				}
				measureNet(b, m, b.Name(), n, m.ClassifyOnly, benchPacket())
			})
		}
	}
}

func probePacket() measurePacket {
	return measurePacket{
		Src: Address(netip.MustParseAddr(benchFrom)), Dst: Address(netip.MustParseAddr(benchTo)),
		Sport: hostOrder(31234), Dport: hostOrder(5678), Proto: 6, Segments: 1, Length: 54,
	}
}

// rotator runs a program on packets of one connection after the other.
type rotator struct {
	*rig
	*Measure
	packet []byte
}

// newRotator counts up the source address of a packet, from 12.0.0.0.
func newRotator(b *testing.B, r *rig, packet []byte, offset, count uint32) *rotator {
	b.Helper()
	m := NewMeasure(b, r.Generation)
	*m.turn = measureRotation{Offset: offset, First: 12 << 24, Count: count}
	return &rotator{r, m, packet}
}

// mean is the mean time of a run over n connections, from the first.
func (r *rotator) mean(b *testing.B, n int) time.Duration {
	b.Helper()
	r.turn.Next = 0
	_, d, err := r.Rotate.Benchmark(r.packet, n, nil)
	must(b, err)
	return d
}

// hand lets the rotator hand its packets to the program that judges them, or to none.
func (r *rotator) hand(b *testing.B, on bool) {
	b.Helper()
	if on {
		r.to(b, r.objects.Ingress)
	} else {
		r.to(b, nil)
	}
}

// to lets the rotator hand its packets to a program.
func (r *rotator) to(b *testing.B, p *ebpf.Program) {
	b.Helper()
	if p != nil {
		must(b, r.Rotated.Put(uint32(0), p))
	} else if err := r.Rotated.Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		b.Fatal(err)
	}
}

const (
	ipv4Source = 14 + 12
	ipv4Dest   = 14 + 16
)

// openHost makes the loopback interface one of the host that has the given mask for all that comes in.
func openHost(r *rig, mask uint32) {
	r.iface(layout.Iface{Endpoint: 3, Ifindex: 1, Mask: [layout.Stages]uint32{layout.StageNormalIn: mask, layout.StageForwardIn: mask}})
}

func BenchmarkEstablished(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"1kFlows", 1000}, {"1MFlows", 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			restore, noRoom := makeRoom(c.n * 5 / 4)
			b.Cleanup(func() { must(b, restore()) })
			lab.Enter(b) // its connections in the kernel's conntrack end with it
			r := newRigOf(b, benchSizes(), SharedSizes{Flows: uint32(c.n) * 5 / 4, NewFlows: uint32(c.n) * 5 / 4})
			r.shared.Settings.Share = 0 // all are of one endpoint
			mask := policyOf(r, "nets", 100)
			openHost(r, mask)
			question := newRotator(b, r, udp("12.0.0.0", benchTo, 31234, 5678), ipv4Source, uint32(c.n))
			answer := newRotator(b, r, udp(benchTo, "12.0.0.0", 5678, 31234), ipv4Dest, uint32(c.n))
			prove(b, question, answer, c.n)
			peer, noPeer := newPeer(b, question, c.n)
			if err := errors.Join(noRoom, noPeer); err != nil {
				b.Logf("no figures of nf_conntrack: %v", err)
				peer = nil
			}
			for range b.N {
				measureHot(b, question, c.n)
				r.workload(1, 3, 0, 0, "12.0.0.0")
				nothing := warm(b, question.Noop, question.packet, warmRepeat)
				report(b, b.Name(), "hot-workload", c.n, warm(b, r.objects.Ingress, question.packet, warmRepeat)-nothing)
				bridged := r.workload(1, 3, 0, mask, "12.0.0.0")
				bridged.Flags |= layout.IfaceBridged
				r.iface(bridged)
				warm(b, r.objects.Ingress, question.packet, 1) // ports have entries of their own, which must be proven too
				warm(b, r.objects.Egress, answer.packet, 1)
				report(b, b.Name(), "hot-bridged", c.n, warm(b, r.objects.Ingress, question.packet, warmRepeat)-nothing)
				openHost(r, mask)
				measureRoundRobin(b, question, peer, c.n)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// measureHot reports the time for one connection over and over, and with cold caches.
func measureHot(b *testing.B, r *rotator, n int) {
	b.Helper()
	caches := newThrash()
	nothing := warm(b, r.Noop, r.packet, warmRepeat)
	report(b, b.Name(), "hot", n, warm(b, r.objects.Ingress, r.packet, warmRepeat)-nothing)
	nothing = cold(b, r.Noop, r.packet, caches)
	report(b, b.Name(), "cold", n, cold(b, r.objects.Ingress, r.packet, caches)-nothing)
}

// measureRoundRobin reports the time for one connection after the other, beside that of nf_conntrack for a lookup of
// the same connections and nothing else. Rounds of both alternate.
func measureRoundRobin(b *testing.B, r *rotator, peer *peer, n int) {
	b.Helper()
	runs := max(n, 300_000)
	ours, theirs, nothing := time.Hour, time.Hour, time.Hour
	for range 5 {
		r.to(b, r.objects.Ingress)
		ours = min(ours, r.mean(b, runs))
		if peer != nil {
			r.to(b, peer.ConntrackFind)
			theirs = min(theirs, r.mean(b, runs))
		}
		r.to(b, nil)
		nothing = min(nothing, r.mean(b, runs))
	}
	report(b, b.Name(), "round-robin", n, ours-nothing)
	if peer != nil {
		report(b, b.Name(), "nf_conntrack", n, theirs-nothing)
	}
}

// prove opens n connections, has each answered, and lets each opener speak again.
func prove(b *testing.B, question, answer *rotator, n int) {
	b.Helper()
	question.hand(b, true)
	answer.hand(b, true)
	for _, r := range []*rotator{question, answer, question} {
		r.mean(b, n)
	}
	proven := 0
	must(b, question.shared.Connections(func(c Connection) bool {
		if c.Proven {
			proven++
		}
		return true
	}))
	if proven != n {
		b.Fatalf("%d of %d connections are proven", proven, n)
	}
}

func BenchmarkNewFlow(b *testing.B) {
	for _, c := range []struct {
		name  string
		n     int
		share uint32
	}{{"1", 1, plenty}, {"1000", 1000, plenty}, {"10000", 10000, plenty}, {"1 beyond the share", 1, 0}} {
		b.Run(c.name, func(b *testing.B) {
			const flows = 2000
			n := c.n
			r := newRigOf(b, benchSizes(), SharedSizes{Flows: 1024, NewFlows: 65536})
			openHost(r, policyOf(r, "nets", n))
			r.shared.Settings.OpeningShare = c.share
			opener := newRotator(b, r, tcp("12.0.0.0", benchTo, 31234, 5678, "S", 1, 0), ipv4Source, flows)
			for range b.N {
				best, nothing := time.Hour, time.Hour
				for range 15 {
					opener.hand(b, true)
					best = min(best, opener.mean(b, flows))
					if got := len(r.connections()); got != flows {
						b.Fatalf("%d connections, want %d", got, flows)
					}
					r.forgetAll()
					opener.hand(b, false)
					nothing = min(nothing, opener.mean(b, flows))
				}
				report(b, b.Name(), "warm", n, best-nothing)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
