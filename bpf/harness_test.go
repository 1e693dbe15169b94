package bpf

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/skip"
)

// smallSizes keep a test's tables small.
func smallSizes() Sizes {
	return Sizes{Blocks: 2, Vectors: 64, Chunks: 64, Hosts: 1024, Nets: 1024, Interfaces: 64, Sources: 1024, SourceNets: 64}
}

// pinDir mounts a bpf file system for one test.
func pinDir(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.For(t, "needs root to load programs")
	}
	dir := t.TempDir()
	if err := MountFS(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// rig is a traced generation with its shared state, hand-filled.
type rig struct {
	testing.TB
	*Generation
	shared     *Shared
	dir        string
	name       string // of the case, where a test has several: subtests would leave the namespace
	nextSlot   uint32
	nextVector uint32
}

func newRigOf(t testing.TB, sizes Sizes, flows SharedSizes) *rig {
	t.Helper()
	return newRigIn(t, pinDir(t), sizes, flows)
}

func newRigIn(t testing.TB, dir string, sizes Sizes, flows SharedSizes) *rig {
	t.Helper()
	shared, err := OpenShared(dir, flows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, shared.Close()) })
	shared.Settings.HostMark = 0x2000000
	g, err := LoadTraced(shared, sizes)
	if err != nil {
		var refused *ebpf.VerifierError
		if errors.As(err, &refused) && len(refused.Log) > 40 {
			refused.Log = refused.Log[len(refused.Log)-40:]
		}
		t.Fatalf("%+v", errors.Join(err, refused))
	}
	t.Cleanup(func() { must(t, g.Close()) })
	return &rig{TB: t, Generation: g, shared: shared, dir: dir, nextVector: 1}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rule is one slot of a mask. Criteria that are not set match every packet.
type rule struct {
	id         uint64
	action     uint8
	next       uint32 // of ActionPass: index in the mask
	source     string // a host or a network
	dest       string
	service    uint32 // point + 1
	sourcePort uint32 // point + 1
}

// mask writes rules to slots in block 0 and returns a mask of them. The generation must not hold other rules that
// constrain the same addresses: classes are written whole.
func (r *rig) mask(rules ...rule) uint32 {
	r.Helper()
	mask := r.vector()
	for i, rule := range rules {
		slot := r.nextSlot + uint32(i)
		r.Slots[slot] = layout.Slot{Rule: rule.id, Action: rule.action, Next: r.nextSlot + rule.next}
		r.set(mask, slot)
		r.address(slot, rule.source, layout.DimSource)
		r.address(slot, rule.dest, layout.DimDest)
		r.point(slot, rule.service, layout.DimService, r.Services)
		r.point(slot, rule.sourcePort, layout.DimSourcePort, r.SourcePorts)
		if rule.sourcePort != 0 {
			r.Vectors[mask*r.Sizes.Blocks].SourcePorts = 1
		}
	}
	r.nextSlot += uint32(len(rules))
	return mask
}

func (r *rig) vector() uint32 {
	v := r.nextVector
	r.nextVector++
	r.Vectors[v*r.Sizes.Blocks].Chunk = v
	return v
}

func (r *rig) set(vector, slot uint32) {
	r.Vectors[vector*r.Sizes.Blocks].Summary |= 1 << (slot / 64)
	r.Chunks[vector].Words[slot/64].Pos |= 1 << (slot % 64)
}

func (r *rig) wild(slot uint32, dim int) {
	r.Wild[0].Summary[dim] |= 1 << (slot / 64)
	r.Wild[0].Words[slot/64][dim] |= 1 << (slot % 64)
}

func (r *rig) point(slot, point uint32, dim int, line []uint32) {
	if point == 0 {
		r.wild(slot, dim)
		return
	}
	if line[point-1] == 0 {
		line[point-1] = r.vector()
	}
	r.set(line[point-1], slot)
}

func (r *rig) address(slot uint32, text string, dim int) {
	r.Helper()
	if text == "" {
		r.wild(slot, dim)
		return
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr := netip.MustParseAddr(text)
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	class := r.class(prefix)
	if dim == layout.DimSource {
		r.set(class.Source, slot)
	} else {
		r.set(class.Dest, slot)
	}
}

// class is the class of a host or network, made if there is none.
func (r *rig) class(p netip.Prefix) layout.AddressClass {
	r.Helper()
	key := Address(p.Addr())
	if p.IsSingleIP() {
		class, found, err := r.Hosts.Get(key)
		must(r, err)
		if !found {
			class = ClassOf(p.Addr(), r.vector(), r.vector())
			must(r, r.Hosts.Put(key, class))
		}
		return class
	}
	class, found, err := r.Nets.Get(NetKeyOf(p))
	must(r, err)
	if !found || class.Addr != Address(p.Masked().Addr()) {
		class = ClassOf(p.Masked().Addr(), r.vector(), r.vector())
		must(r, r.Nets.Put(NetKeyOf(p), class))
	}
	return class
}

// workload makes the loopback interface, or another one, a workload's.
func (r *rig) workload(ifindex uint32, endpoint uint64, in, out uint32, addrs ...string) layout.Iface {
	r.Helper()
	i := layout.Iface{Endpoint: endpoint, Ifindex: ifindex, Flags: layout.IfaceWorkload}
	i.Mask[layout.StageNormalIn], i.Mask[layout.StageNormalOut] = in, out
	r.iface(i)
	for _, a := range addrs {
		must(r, r.Sources.Put(layout.SourceKey{Ifindex: ifindex, Addr: Address(netip.MustParseAddr(a))}, 1))
	}
	return i
}

func (r *rig) iface(i layout.Iface) {
	r.Helper()
	must(r, r.Interfaces.Put(i.Ifindex, i))
}

// in judges a packet that comes in by an interface, out one that leaves by it and came by another.
func (r *rig) in(ifindex uint32, packet []byte) Outcome {
	r.Helper()
	return r.run(Run{Hook: Ingress, Ifindex: ifindex, Packet: packet})
}

func (r *rig) out(ifindex uint32, packet []byte) Outcome {
	r.Helper()
	return r.run(Run{Hook: Egress, Ifindex: ifindex, Inner: 77, Packet: packet})
}

// born judges a packet that this host sends itself.
func (r *rig) born(ifindex uint32, packet []byte) Outcome {
	r.Helper()
	return r.run(Run{Hook: Egress, Ifindex: ifindex, Packet: packet})
}

func (r *rig) run(run Run) Outcome {
	r.Helper()
	o, err := r.Run(run)
	must(r, err)
	if goesOn := !o.Reason.Drops() && o.Reason != PassToAgent; o.Allowed != goesOn {
		r.Fatalf("verdict and reason disagree: %+v", o)
	}
	return o
}

func (r *rig) want(o Outcome, reason Reason) {
	r.Helper()
	if o.Reason != reason {
		r.Errorf("%s: %v, want %v (%+v)", r.name, o.Reason, reason, o)
	}
}
