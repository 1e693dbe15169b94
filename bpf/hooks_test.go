package bpf

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// accepting is a program of another project, which accepts every packet.
func accepting(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// stranger attaches a program of another project before all others.
func (r *router) stranger(t *testing.T, ifindex uint32, hook Hook, name string) link.Link {
	t.Helper()
	l, err := link.AttachTCX(link.TCXOptions{Interface: int(ifindex), Program: accepting(t, name), Attach: hook.attachType(), Anchor: link.Head()})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// order lists the programs at a hook, by name.
func (r *router) order(t *testing.T, ifindex uint32, hook Hook) string {
	t.Helper()
	list, err := NewHooks().Read(ifindex, hook)
	must(t, err)
	var names []string
	for _, f := range list {
		if f.Ours {
			f.Name = "ours"
		}
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}

func (r *router) state(t *testing.T, a *Attachment, hook Hook) HookState {
	t.Helper()
	s, err := a.ReadHook(NewHooks(), hook)
	must(t, err)
	return s
}

// A stranger who calls a program as ours is called stays a stranger.
func TestProgramsAreToldApart(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	r.stranger(t, r.v1, Ingress, "ingress")
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	defer a.Detach()
	r.stranger(t, r.v1, Egress, "shaper")
	if order := r.order(t, r.v1, Ingress) + ", " + r.order(t, r.v1, Egress); order != "ours ingress, shaper ours" {
		t.Error(order)
	}
	if s := r.state(t, a, Ingress); !s.Sound() || len(s.After) != 1 || s.After[0].Name != "ingress" {
		t.Errorf("%+v", s)
	}
	if s := r.state(t, a, Egress); s.Sound() || s.Lost || len(s.Before) != 1 || s.Before[0].Name != "shaper" {
		t.Errorf("%+v", s)
	}
	running, err := NewHooks().Running([]uint32{r.v1, r.v2, 4711})
	must(t, err)
	if len(running) != 1 || !running[r.v1] {
		t.Errorf("%v", running)
	}
}

func TestOursMoveBeforeAStranger(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	defer func() { must(t, a.Close()) }()
	s, err := r.StandIn()
	must(t, err)
	defer s.Close()
	for _, hook := range []Hook{Ingress, Egress} {
		r.stranger(t, r.v1, hook, "filter")
		must(t, r.MoveFirst(a, r.dir, hook, s))
		must(t, link.RawAttachProgram(link.RawAttachProgramOptions{ // without a link
			Target: int(r.v1), Program: accepting(t, "shaper"), Attach: hook.attachType(), Anchor: link.Head(),
		}))
		must(t, r.MoveFirst(a, r.dir, hook, s))
		if order := r.order(t, r.v1, hook); order != "ours shaper filter" {
			t.Errorf("%s: %s", hook, order)
		}
		if state := r.state(t, a, hook); !state.Sound() {
			t.Errorf("%+v", state)
		}
	}
	must(t, a.Close()) // a restart adopts the links that are pinned now
	if a, err = r.Attach(r.dir, r.v1); err != nil || !a.Adopted {
		t.Fatalf("%+v, %v", a, err)
	}
	must(t, a.Detach())
	if order := r.order(t, r.v1, Ingress); order != "shaper filter" {
		t.Error(order)
	}
	if left, err := Pinned(r.dir); err != nil || strings.Contains(fmt.Sprint(left), "link_") {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestADetachedLinkIsMadeAgain(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	must(t, a.links[Egress].Detach())
	if s := r.state(t, a, Ingress); !s.Sound() {
		t.Errorf("%+v", s)
	}
	if s := r.state(t, a, Egress); !s.Lost {
		t.Errorf("%+v", s)
	}
	must(t, r.Reattach(a, r.dir, Egress))
	if s := r.state(t, a, Egress); !s.Sound() || !a.Live() {
		t.Errorf("%+v", s)
	}
	pinned, err := link.LoadPinnedLink(linkPath(r.dir, r.v1, Egress), nil)
	must(t, err)
	must(t, pinned.Update(accepting(t, "filter")))
	must(t, pinned.Close())
	if s := r.state(t, a, Egress); !s.Lost {
		t.Errorf("somebody else's program in our link: %+v", s)
	}
	must(t, r.Reattach(a, r.dir, Egress))
	must(t, a.Close())
	if order := r.order(t, r.v1, Egress); order != "ours" {
		t.Errorf("after the process has ended: %q", order)
	}
	must(t, Detach(r.dir, r.v1))
}

func TestRemovedPinsAreMadeAgain(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	before, err := Pinned(r.dir)
	must(t, err)
	for name := range before {
		if !strings.Contains(name, ".") {
			must(t, os.Remove(r.dir+"/"+name))
		}
	}
	left, err := Pinned(r.dir)
	must(t, err)
	links, err := a.Repin(r.dir, left)
	must(t, err)
	tables, err := r.shared.Repin(left)
	must(t, err)
	after, err := Pinned(r.dir)
	must(t, err)
	if links != 2 || links+tables+len(left) != len(after) || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("pinned %d links, %d tables: %v, want %v", links, tables, after, before)
	}
	must(t, a.Close())
	if a, err = r.Attach(r.dir, r.v1); err != nil || !a.Adopted {
		t.Fatalf("%+v, %v", a, err)
	}
	must(t, a.Detach())
}

// An agent with another pin directory goes on with the connections of the one before, whose programs still run.
func TestConnectionsAreInheritedFromRunningPrograms(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, 0)
	a, err := r.Attach(r.dir, r.v1)
	must(t, err)
	defer a.Detach()
	elsewhere := t.TempDir()
	must(t, MountFS(elsewhere))
	t.Cleanup(func() { unmount(t, elsewhere) })
	stale, err := OpenShared(elsewhere, SharedSizes{Flows: 16, NewFlows: 16})
	must(t, err)
	must(t, stale.Close())
	inherited, err := NewHooks().Inherit(elsewhere, []uint32{r.v1, r.v2})
	if !inherited || err != nil {
		t.Fatal(inherited, err)
	}
	next, err := OpenShared(elsewhere, SharedSizes{Flows: 16, NewFlows: 16})
	must(t, err)
	defer next.Close()
	if next.FlowSizes() != r.shared.FlowSizes() {
		t.Errorf("%+v are not the tables of connections that are in use", next.FlowSizes())
	}
	if epoch := r.shared.AdvanceEpoch(); next.Epoch() != epoch {
		t.Errorf("epoch %d, want %d", next.Epoch(), epoch)
	}
	if inherited, err := NewHooks().Inherit(elsewhere, []uint32{r.v2}); inherited || err != nil {
		t.Error(inherited, err)
	}
	for _, ifindex := range []uint32{r.v2, r.up, r.up2} { // most of its interfaces are elsewhere
		r.workload(ifindex, uint64(ifindex), 0, 0)
	}
	if inherited, err := NewHooks().Inherit(elsewhere, []uint32{r.v1, r.v2}); inherited || err == nil {
		t.Error(inherited, err)
	}
}

// BenchmarkReadHooks reads both hooks of 1,000 interfaces on which nothing has changed, as the agent does every few seconds.
func BenchmarkReadHooks(b *testing.B) {
	const interfaces = 1000 // and as many at their far ends
	r := newRouter(b)
	h := NewHooks()
	var list []*Attachment
	for i := range interfaces {
		name := fmt.Sprintf("d%d", i)
		a, err := r.Attach(r.dir, uint32(r.on.Veth(name, name+"p").Attrs().Index))
		must(b, err)
		defer a.Detach()
		list = append(list, a)
	}
	for b.Loop() {
		pinned, err := Pinned(r.dir)
		must(b, err)
		for _, a := range list {
			for _, hook := range []Hook{Ingress, Egress} {
				if s, err := a.ReadHook(h, hook); err != nil || s.Lost {
					b.Fatal(s, err)
				}
			}
			if n, err := a.Repin(r.dir, pinned); n > 0 || err != nil {
				b.Fatal(n, err)
			}
		}
	}
}
