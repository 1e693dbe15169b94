package dataplane

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// Return values of foreign programs.
const (
	tcxNext = -1
	tcxPass = 0
)

// foreignProgram attaches a foreign program before all others at a hook.
func (m *vm) foreignProgram(at bpf.Hook, answer int32) link.Link {
	m.h.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "stranger", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, answer), asm.Return()},
	})
	must(m.h, err)
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: m.index(), Program: p, Attach: attachType(at), Anchor: link.Head()})
	must(m.h, err)
	m.h.Cleanup(func() { l.Close() })
	return l
}

func attachType(at bpf.Hook) ebpf.AttachType {
	if at == bpf.Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

func (m *vm) index() int {
	m.h.Helper()
	i, err := net.InterfaceByName(m.Device)
	must(m.h, err)
	return i.Index
}

// order lists the programs at both hooks of the VM's interface.
func (m *vm) order() string {
	m.h.Helper()
	var hooks []string
	for _, at := range []bpf.Hook{bpf.Ingress, bpf.Egress} {
		list, err := bpf.NewHooks().Read(uint32(m.index()), at)
		must(m.h, err)
		var names []string
		for _, f := range list {
			if f.Ours {
				f.Name = "ours"
			}
			names = append(names, f.Name)
		}
		hooks = append(hooks, strings.Join(names, " "))
	}
	return strings.Join(hooks, ", ")
}

// detach detaches the first program at a hook, as bpftool does.
func (m *vm) detach(at bpf.Hook) {
	m.h.Helper()
	list, err := bpf.NewHooks().Read(uint32(m.index()), at)
	must(m.h, err)
	must(m.h, list[0].TakeOff())
}

// sink listens on UDP port 82 of the VM and counts the packets that arrive. It sends no answer.
func (m *vm) sink() *atomic.Int64 {
	m.h.Helper()
	arrived := &atomic.Int64{}
	must(m.h, m.Do(func() error {
		packets, err := net.ListenPacket("udp", ":82")
		if err != nil {
			return err
		}
		m.h.Cleanup(func() { packets.Close() })
		go func() {
			for buffer := make([]byte, 64); ; {
				if _, _, err := packets.ReadFrom(buffer); err != nil {
					return
				}
				arrived.Add(1)
			}
		}()
		return nil
	}))
	return arrived
}

// sendDenied sends to UDP port 82 until the returned function is called.
func (m *vm) sendDenied(to netip.Addr) func() {
	m.h.Helper()
	conn, err := m.Dial("udp", to, 82)
	must(m.h, err)
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Go(func() {
		for tick := time.NewTicker(50 * time.Microsecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				_, _ = conn.Write([]byte("let me in"))
			}
		}
	})
	return func() {
		close(stop)
		done.Wait()
		conn.Close()
	}
}

// hostWithTraffic starts a host with two VMs and constant traffic between them. The server accepts only UDP and TCP on port
// 80. The function end stops the traffic and checks that no allowed packet was lost and no denied packet has passed.
func (h *host) hostWithTraffic(c *clock) (d *driver, w world, client, server *vm, log *repairLog, end func()) {
	h.Helper()
	log = &repairLog{}
	h.log.Logger.AddHook(log)
	client, server = h.pair()
	w = newWorld()
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	for name, p := range w.Policies {
		if strings.HasPrefix(name.Name, "default.protect") {
			p.Ingress[0].Protocol = 17
			p.Ingress = append(p.Ingress, p.Ingress[0])
			p.Ingress[1].Protocol = 6
			w.Policies[name] = p
		}
	}
	d = h.run(w, Options{clock: c.time})
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("udp", server.Addresses[0], 81) {
		h.Fatal("the policy is not in force")
	}
	arrived := server.sink()
	allowed, stop := client.Stream(server.Addresses[0], 80, aTick), client.sendDenied(server.Addresses[0])
	return d, w, client, server, log, func() {
		h.Helper()
		stop()
		if n := arrived.Load(); n > 0 {
			h.Errorf("%d packets arrived that policy denies", n)
		}
		if sent := allowed.End(); lab.Lost(sent) != 0 {
			h.Errorf("%d of %d packets that policy allows were lost", lab.Lost(sent), len(sent))
		}
	}
}

// readHooks makes one pass that reads the hooks.
func (d *driver) readHooks(c *clock) {
	d.h.Helper()
	c.now = c.now.Add(2 * readBackSoon)
	must(d.h, d.Apply(calc.Delta{}))
}

func TestOurProgramBecomesFirstAgainUnderTraffic(t *testing.T) {
	h := newHost(t)
	c := &clock{time.Now()}
	d, _, client, server, log, end := h.hostWithTraffic(c)
	defer func() { must(t, d.Uninstall()) }()
	const rounds = 5
	for range rounds {
		for _, m := range []*vm{client, server} {
			m.foreignProgram(bpf.Ingress, tcxNext)
			m.foreignProgram(bpf.Egress, tcxNext)
		}
		c.now = c.now.Add(readBack)
		d.readHooks(c)
		for _, m := range []*vm{client, server} {
			if order := m.order(); strings.Count(order, "ours") != 2 || !strings.HasPrefix(order, "ours") || !strings.Contains(order, ", ours") {
				t.Errorf("%s: %s", m.Device, order)
			}
		}
		if told := log.drain(); strings.Count(told, `"stranger" (program `) < 4 || !strings.Contains(told, "hooks: egress of cali2 (") {
			t.Errorf("logged %q", told)
		}
	}
	if n := d.Status().Repairs["hooks"]; n != 4*rounds {
		t.Errorf("%d repairs", n)
	}
	end()
}

// A foreign program before ours accepts everything, so it opens connections that policy denies until ours is first again. If
// it returns repeatedly, felix reports a problem.
func TestOurProgramOvertakesAForeignProgramThatAccepts(t *testing.T) {
	h := newHost(t)
	d, client, server, c := h.protected()
	defer func() { must(t, d.Uninstall()) }()
	to := server.Addresses[0]
	if !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
		t.Fatal("the policy is not in force")
	}
	arrived := server.sink()
	defer client.sendDenied(to)()
	server.foreignProgram(bpf.Egress, tcxPass)
	h.until("a packet that policy denies", func() bool { return arrived.Load() > 0 })
	d.readHooks(c)
	lab.LetPass(lab.AnswerTime) // nothing shows when packets in flight have arrived
	before := arrived.Load()
	if !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) || arrived.Load() > before {
		t.Error("the policy is not in force after our program is first again")
	}
	if s := d.Status(); len(s.Problems) > 0 || d.stateOfInterface("cali2") != Enforced {
		t.Errorf("a single repair is reported as a problem: %v", s.Problems)
	}
	for range 6 {
		server.foreignProgram(bpf.Egress, tcxPass)
		d.readHooks(c)
	}
	problems := strings.Join(d.Status().Problems, "\n")
	for _, text := range []string{`"stranger" (program `, "tcx egress of cali2", "bpftool net show dev cali2"} {
		if !strings.Contains(problems, text) {
			t.Errorf("problems %q do not contain %q", problems, text)
		}
	}
	if n := d.Status().Repairs["hooks"]; n < 2 || n > 5 {
		t.Errorf("%d repairs in a minute", n)
	}
	if d.stateOfInterface("cali2") != Failed {
		t.Error("the interface is called enforced although a program that accepts everything is first")
	}
	c.later()
	d.readHooks(c)
	if client.ReachesAtOnce("tcp", to, 81) || d.stateOfInterface("cali2") != Enforced {
		t.Error("our program is not first again")
	}
	c.now = c.now.Add(2 * rivalForgotten)
	d.readHooks(c)
	if s := d.Status(); len(s.Problems) > 0 {
		t.Errorf("problems long after the last repair: %v", s.Problems)
	}
}

// A foreign program was attached before ours while no felix ran. Ours is first again as soon as felix enforces the current
// policy.
func TestARestartOvertakesAForeignProgram(t *testing.T) {
	h := newHost(t)
	d, client, server, c := h.protected()
	must(t, d.Close())
	server.foreignProgram(bpf.Egress, tcxPass)
	d = h.run(world{d.given}, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	if order := server.order(); order != "ours, ours stranger" {
		t.Error(order)
	}
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Error("the policy is not in force")
	}
}

// An interface whose program cannot be attached again is not called enforced.
func TestAFailedRepairIsAProblem(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	c := &clock{time.Now()}
	fails := true
	d := h.run(w, Options{clock: c.time, step: func(what string) error {
		if fails && strings.HasPrefix(what, "attach again") {
			return errors.New("the kernel refuses")
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	server.detach(bpf.Egress)
	c.now = c.now.Add(2 * readBackSoon)
	if err := d.Apply(calc.Delta{}); err == nil {
		t.Error("no error")
	}
	if p := d.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "egress of cali2") || d.stateOfInterface("cali2") != Failed {
		t.Errorf("%s, problems %q", d.stateOfInterface("cali2"), p)
	}
	fails = false
	d.readHooks(c)
	if p := d.Status().Problems; len(p) > 0 || server.order() != "ours, ours" || d.stateOfInterface("cali2") != Enforced {
		t.Errorf("%s, %s, problems %q", server.order(), d.stateOfInterface("cali2"), p)
	}
}

// A foreign program behind ours is no problem.
func TestAForeignProgramBehindOursIsNoProblem(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	server.foreignProgram(bpf.Egress, tcxPass) // before felix starts
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.readHooks(c)
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Error("the policy is not in force")
	}
	if s := d.Status(); len(s.Problems)+len(s.Repairs) > 0 {
		t.Errorf("problems %v, repairs %v", s.Problems, s.Repairs)
	}
}

func TestDetachedOrUnpinnedLinksAreRepaired(t *testing.T) {
	h := newHost(t)
	d, client, server, c := h.protected()
	defer func() { must(t, d.Uninstall()) }()
	to := server.Addresses[0]
	for name, harm := range map[string]func(){
		"one detached": func() { server.detach(bpf.Egress) },
		"all detached": func() {
			for _, m := range []*vm{client, server} {
				m.detach(bpf.Ingress)
				m.detach(bpf.Egress)
			}
		},
		"unpinned": func() {
			pins, err := filepath.Glob(h.pins + "/link_*")
			must(t, err)
			for _, path := range pins {
				must(t, os.Remove(path))
			}
		},
		"all unpinned": func() {
			pins, err := filepath.Glob(h.pins + "/*_*")
			must(t, err)
			for _, path := range pins {
				must(t, os.Remove(path))
			}
		},
		"unmounted": func() { must(t, unix.Unmount(h.pins, unix.MNT_DETACH)) },
	} {
		before := total(d.Status().Repairs)
		harm()
		d.readHooks(c)
		if total(d.Status().Repairs) == before {
			t.Errorf("%s: no repair", name)
		}
		if s := d.Status(); len(s.Problems) > 0 {
			t.Errorf("%s: %v", name, s.Problems)
		}
		must(t, d.Close()) // links that are not pinned end here
		if client.order()+server.order() != "ours, oursours, ours" {
			t.Errorf("%s: programs after the process has ended: %s, %s", name, client.order(), server.order())
		}
		if !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
			t.Errorf("%s: the policy is not in force", name)
		}
		given := d.given
		d = h.run(world{given}, Options{clock: c.time})
	}
}

// elsewhere is a Driver of the same host with another pin directory.
func (h *host) elsewhere(w world, c *clock) *driver {
	h.Helper()
	h.pins = h.pinDir()
	return h.run(w, Options{clock: c.time})
}

// Programs of an earlier process enforce the old policy until the new programs replace them.
func TestARestartWithAnotherPinDirectoryLosesNoConnection(t *testing.T) {
	h := newHost(t)
	c := &clock{time.Now()}
	d, w, client, server, log, end := h.hostWithTraffic(c)
	tcp, err := client.Dial("tcp", server.Addresses[0], 80)
	must(t, err)
	defer tcp.Close()
	must(t, d.Close())
	d = h.elsewhere(w, c)
	defer func() { must(t, d.Uninstall()); h.leavesNothing() }()
	if order := client.order() + ", " + server.order(); order != "ours, ours, ours, ours" {
		t.Error(order)
	}
	if n := d.Status().Repairs["former programs"]; n != 4 {
		t.Errorf("%d repairs: %v %s", n, d.Status().Repairs, log.drain())
	}
	if !lab.Answered(tcp) {
		t.Error("a connection was cut")
	}
	end()
	for id := range w.Endpoints {
		delete(w.Endpoints, id)
	}
	w.workload(client)
	w.protect(w.workload(server), 81)
	must(t, d.become(w))
	if !client.Reaches("tcp", server.Addresses[0], 81) || client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Error("the new policy is not in force")
	}
}

// Programs of an earlier process are removed from interfaces that no policy applies to any more. Other interfaces keep them
// until the input is known.
func TestProgramsOfAnEarlierProcessAreRemovedWhereNoPolicyApplies(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.Config.InterfacePrefixes = []string{"tap"} // so the names of the interfaces do not make them workloads
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	must(t, d.Close())
	h.pins = h.pinDir()
	d = h.start(Options{clock: c.time})
	defer func() { must(t, d.Uninstall()); h.leavesNothing() }()
	must(t, d.Apply(calc.Delta{}))
	if server.order() != "ours, ours" || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Errorf("before the input is known: %s", server.order())
	}
	half := newWorld()
	half.Config.InterfacePrefixes = []string{"tap"}
	half.workload(client)
	d.InSync()
	must(t, d.become(half))
	d.readHooks(c)
	if client.order() != "ours, ours" || server.order() != "ours, ours" {
		t.Errorf("%s, %s", client.order(), server.order())
	}
	if client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Error("a VM that lost its endpoint is open")
	}
}

// felix --uninstall removes the programs of every earlier felix, also those in another pin directory. It logs that settings
// recorded in another pin directory stay as they are.
func TestUninstallRemovesProgramsOfEarlierProcesses(t *testing.T) {
	h := newHost(t)
	d, _, _, _ := h.protected()
	must(t, d.Close())
	former := h.pins
	h.pins = h.pinDir()
	told := test.NewLocal(h.log.Logger)
	must(t, h.start(Options{}).Uninstall())
	h.leavesNothing()
	for _, want := range []string{"no setting under /proc/sys is put back", "run felix --uninstall with that --pin-dir too"} {
		if !slices.ContainsFunc(told.AllEntries(), func(e *logrus.Entry) bool { return strings.Contains(e.Message, want) }) {
			t.Errorf("no log line contains: %s", want)
		}
	}
	h.pins = former
	told.Reset()
	must(t, h.start(Options{}).Uninstall())
	if all := told.AllEntries(); len(all) != 1 || !strings.Contains(all[0].Message, "are put back to what they were before felix") {
		t.Errorf("the uninstall with the earlier pin directory logged: %v", all)
	}
}

// An agent in another network namespace keeps its programs there.
func TestProgramsOfAnotherNamespaceStay(t *testing.T) {
	h := newHost(t)
	d, client, server, c := h.protected()
	defer func() { must(t, d.Uninstall()) }()
	other := h.plug("other", "10.65.0.9")
	must(t, other.Do(func() error {
		o, err := New(Options{PinDir: h.pinDir(), Log: h.log})
		if err != nil {
			return err
		}
		o.InSync()
		if err := o.Apply(calc.Diff(nil, newWorld().State)); err != nil {
			return err
		}
		return o.Uninstall()
	}))
	d.readHooks(c)
	if client.order()+server.order() != "ours, oursours, ours" || len(d.Status().Repairs) > 0 {
		t.Errorf("%s, %s, repairs %v", client.order(), server.order(), d.Status().Repairs)
	}
}

// A locked datastore changes nothing that is in force: foreign programs do not stay before ours. The agent does not loop over
// work that the lock forbids.
func TestHooksAreKeptWhileTheDatastoreIsLocked(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	w.Ready = false
	must(t, d.become(w))
	c.later()
	server.foreignProgram(bpf.Egress, tcxPass)
	server.detach(bpf.Ingress)
	d.readHooks(c)
	if order := server.order(); order != "ours, ours stranger" {
		t.Error(order)
	}
	if at := d.nextDue(c.now); !at.After(c.now) {
		t.Errorf("due at %v, which is %v ago", at, c.now.Sub(at))
	}
}
