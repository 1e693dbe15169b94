package bpf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
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
func measureNet(b *testing.B, r *rig, name string, n int, p *ebpf.Program, packet []byte) {
	b.Helper()
	caches := newThrash()
	for range b.N {
		nothing := warm(b, r.objects.Noop, packet, warmRepeat)
		report(b, name, "warm", n, warm(b, p, packet, warmRepeat)-nothing)
		nothing = cold(b, r.objects.Noop, packet, caches)
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
	for i := range n {
		w.slot(mask, uint32(i), Slot{Rule: uint64(i + 1), Action: ActionDeny})
		switch shape {
		case "nets":
			addr := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			w.match(w.host(r, addr).Source, uint32(i))
		case "portmiss":
			w.match(w.net(r, netip.MustParsePrefix("11.0.0.0/8")).Source, uint32(i))
		case "sets":
			w.match(w.host(r, netip.MustParseAddr("11.128.0.1")).Source, uint32(i))
		}
		w.match(w.service(ServiceTCP+1+uint32(i%1000)), uint32(i))
		w.wild(uint32(i), DimDest)
		w.wild(uint32(i), DimSourcePort)
	}
	w.slot(mask, uint32(n), Slot{Rule: uint64(n + 1), Action: ActionAllow})
	for dim := range Dims {
		w.wild(uint32(n), dim)
	}
	return mask
}

const benchFrom, benchTo = "11.128.0.1", "10.0.0.2"

func benchPacket() []byte { return tcp(benchFrom, benchTo, 31234, 5678, "S", 1, 0) }

func BenchmarkClassify(b *testing.B) {
	for _, shape := range []string{"nets", "portmiss", "sets"} {
		for _, n := range []int{1, 10, 100, 1000, 4000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", shape, n), func(b *testing.B) {
				r := newRigOf(b, benchSizes(), SharedSizes{Flows: 1024, NewFlows: 1024})
				r.probes[0] = Probe{Mask: policyOf(r, shape, n), Packet: probePacket()}
				o, err := r.objects.ClassifyOnly.Run(&ebpf.RunOptions{Data: benchPacket()})
				must(b, err)
				if o != 1 || r.last[0].Rule != uint64(n+1) {
					b.Fatalf("result %d by rule %d", o, r.last[0].Rule)
				}
				measureNet(b, r, b.Name(), n, r.objects.ClassifyOnly, benchPacket())
			})
		}
	}
}

func probePacket() Packet {
	return Packet{
		Src: Address(netip.MustParseAddr(benchFrom)), Dst: Address(netip.MustParseAddr(benchTo)),
		Sport: hostOrder(31234), Dport: hostOrder(5678), Proto: 6, Segments: 1, Length: 54,
	}
}
