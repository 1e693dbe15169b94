package bpf

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

func TestPinnedLinksAreAdopted(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	if a.Adopted || !a.Live() {
		t.Errorf("%+v", a)
	}
	must(t, a.Close()) // the agent is gone

	next, err := LoadGeneration(r.shared, smallSizes())
	must(t, err)
	defer next.Close()
	b, err := next.Attach(r.dir, r.v1)
	must(t, err)
	if !b.Adopted {
		t.Error("the pinned links were not adopted")
	}
	for hook, program := range []*ebpf.Program{next.objects.Ingress, next.objects.Egress} {
		info, err := program.Info()
		must(t, err)
		want, _ := info.ID()
		attached, err := link.QueryPrograms(link.QueryOptions{Target: int(r.v1), Attach: Hook(hook).attachType()})
		must(t, err)
		if len(attached.Programs) != 1 || attached.Programs[0].ID != want {
			t.Errorf("%s runs %v, want only %v", Hook(hook), attached.Programs, want)
		}
	}
	must(t, b.Swap(r.Generation))
	live, err := Attached(r.dir)
	must(t, err)
	if len(live) != 1 || !live[r.v1] {
		t.Errorf("%v", live)
	}
	must(t, b.Detach())
	if live, err := Attached(r.dir); err != nil || len(live) != 0 {
		t.Errorf("%v, %v", live, err)
	}
}

func TestOurProgramsComeFirst(t *testing.T) {
	r := newRouter(t)
	other, err := link.AttachTCX(link.TCXOptions{Interface: int(r.v1), Program: NewMeasure(t, r.Generation).Noop, Attach: ebpf.AttachTCXIngress})
	must(t, err)
	defer other.Close()
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	defer a.Detach()
	info, err := r.objects.Ingress.Info()
	must(t, err)
	id, _ := info.ID()
	attached, err := link.QueryPrograms(link.QueryOptions{Target: int(r.v1), Attach: ebpf.AttachTCXIngress})
	must(t, err)
	if len(attached.Programs) != 2 || attached.Programs[0].ID != id {
		t.Errorf("%v, want %d first", attached.Programs, id)
	}
}

func TestPinsOfAVanishedInterfaceAreReplaced(t *testing.T) {
	r := newRouter(t)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	l, err := netlink.LinkByIndex(int(r.v1))
	must(t, err)
	must(t, netlink.LinkDel(l))
	if a.Live() {
		t.Error("alive without an interface")
	}
	must(t, a.Close())
	live, err := Attached(r.dir)
	must(t, err)
	if gone, listed := live[r.v1]; gone || !listed {
		t.Errorf("%v", live)
	}
	if _, err := r.Attach(r.dir, r.v1); err == nil || !strings.Contains(err.Error(), "no such interface") {
		t.Error(err)
	}
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "again", Index: int(r.v1)}, PeerName: "againp"}))
	b, err := r.Attach(r.dir, r.v1)
	must(t, err)
	if b.Adopted || !b.Live() {
		t.Errorf("%+v", b)
	}
	must(t, b.Detach())
	must(t, Detach(r.dir, r.v1))
}
