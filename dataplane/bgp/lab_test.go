package bgp_test

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/internal/skip"
)

// lab is two network namespaces with a cable between them: a host and a router. They have no names; they and all that
// is in them vanish with the last process and handle, however a test ends.
type lab struct {
	host, router netns.NsHandle
}

const (
	host4, router4 = "10.99.0.1", "10.99.0.2"
	host6, router6 = "fd99::1", "fd99::2"
)

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.For(t, "needs root, for network namespaces")
	}
	l := &lab{host: newNamespace(t), router: newNamespace(t)}
	h, err := netlink.NewHandleAt(l.host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "cable"},
		PeerName:      "cable",
		PeerNamespace: netlink.NsFd(int(l.router)),
	}
	if err := h.LinkAdd(veth); err != nil {
		skip.For(t, "make a veth pair: %v", err)
	}
	up(t, l.host, host4+"/24", host6+"/64")
	up(t, l.router, router4+"/24", router6+"/64")
	return l
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		runtime.UnlockOSThread()
		skip.For(t, "make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netns.Set(home); err != nil {
		t.Fatal(err) // the thread stays locked and ends with this goroutine
	}
	runtime.UnlockOSThread()
	return ns
}

func up(t *testing.T, ns netns.NsHandle, addresses ...string) {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, name := range []string{"lo", "cable"} {
		link, err := h.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if name == "lo" {
			continue
		}
		for _, a := range addresses {
			setAddress(t, ns, a, true)
		}
	}
}

// setAddress gives a namespace's end of the cable an address or takes it away.
func setAddress(t *testing.T, ns netns.NsHandle, text string, there bool) {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	link, err := h.LinkByName("cable")
	if err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	address.Flags = unix.IFA_F_NODAD
	set := h.AddrAdd
	if !there {
		set = h.AddrDel
	}
	if err := set(link, address); err != nil {
		t.Fatalf("address %s: %v", text, err)
	}
}

// start runs a command in a namespace and kills it when the test ends, or this process.
func start(t *testing.T, ns netns.NsHandle, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if back := netns.Set(home); back != nil {
		panic(back)
	}
	if err != nil {
		t.Fatalf("start %v: %v", cmd.Args, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// process is this test binary in another role.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader

	questions *gob.Encoder // requests to a speaker, and its answers
	answers   *gob.Decoder
}

func run(t *testing.T, ns netns.NsHandle, role string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = &testWriter{t}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	p.questions, p.answers = gob.NewEncoder(p.in), gob.NewDecoder(p.out)
	start(t, ns, p.cmd)
	return p
}

// kill ends the process at once, without a word to anybody.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

func (p *process) ask(t *testing.T, r request) answer {
	t.Helper()
	if err := p.questions.Encode(r); err != nil {
		t.Fatalf("ask the speaker: %v", err)
	}
	var a answer
	if err := p.answers.Decode(&a); err != nil {
		t.Fatalf("read the speaker's answer: %v", err)
	}
	return a
}

func (p *process) apply(t *testing.T, want calc.BGP) {
	t.Helper()
	if a := p.ask(t, request{Apply: &want}); a.Error != "" {
		t.Fatalf("apply: %s", a.Error)
	}
}

func (p *process) status(t *testing.T) []bgp.PeerStatus {
	t.Helper()
	return p.ask(t, request{Status: true}).Status
}

// waitUp waits until all peers are established and have our paths.
func (p *process) waitUp(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		for _, s := range p.status(t) {
			if s.State != "Established" || s.Announced == 0 {
				return fmt.Errorf("%+v", s)
			}
		}
		return nil
	})
}

// testWriter puts a child's log into the test's.
type testWriter struct{ t *testing.T }

func (w *testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// patience is how long a test waits for something that must come. Nothing takes nearly as long, even on a busy machine.
const patience = 3 * time.Minute

// eventually repeats a check until it passes.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// bird is BIRD 2 in the router's namespace. It puts the routes that it learns into that namespace's kernel.
type bird struct{ socket string }

func startBIRD(t *testing.T, ns netns.NsHandle, config string) *bird {
	t.Helper()
	path, err := exec.LookPath("bird")
	if err != nil {
		if path = "/usr/sbin/bird"; !exists(path) {
			skip.For(t, "BIRD 2 is not installed")
		}
	}
	dir := t.TempDir()
	b := &bird{socket: filepath.Join(dir, "ctl")}
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, ns, exec.Command(path, "-f", "-c", file, "-s", b.socket))
	eventually(t, func() error { _, err := b.ask("show status"); return err })
	return b
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask is one command of birdc. A Unix socket is the same in every network namespace.
func (b *bird) ask(command string) (string, error) {
	c, err := net.DialTimeout("unix", b.socket, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // greeting
		return "", err
	}
	if _, err := fmt.Fprintln(c, command); err != nil {
		return "", err
	}
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		text.WriteString(line)
		// The last line has a space after its number; numbers below 1000 end the reply.
		if len(line) > 4 && line[4] == ' ' && line[0] != ' ' && (line[0] == '0' || line[0] == '8' || line[0] == '9') {
			return text.String(), nil
		}
	}
}

// has waits until a route is there and its attributes contain all texts.
func (b *bird) has(t *testing.T, prefix string, texts ...string) {
	t.Helper()
	eventually(t, func() error {
		out, err := b.ask("show route all " + prefix)
		if err != nil {
			return err
		}
		for _, text := range append(slices.Clone(texts), prefix) {
			if !strings.Contains(out, text) {
				return fmt.Errorf("%q is not in\n%s", text, out)
			}
		}
		return nil
	})
}

func (b *bird) hasNot(t *testing.T, prefix string) {
	t.Helper()
	eventually(t, func() error {
		out, err := b.ask("show route " + prefix)
		if err == nil && strings.Contains(out, prefix) {
			return errors.New(out)
		}
		return err
	})
}

// watchRoutes writes down each change that BIRD makes to the namespace's routes. The function returned gives those so far.
func watchRoutes(t *testing.T, ns netns.NsHandle) func() []string {
	t.Helper()
	updates, done := make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{Namespace: &ns}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	var mu sync.Mutex
	var seen []string
	go func() {
		for u := range updates {
			if u.Protocol != unix.RTPROT_BIRD {
				continue
			}
			verb := "add"
			if u.Type == unix.RTM_DELROUTE {
				verb = "delete"
			}
			mu.Lock()
			seen = append(seen, fmt.Sprintf("%s %s %v via %v", time.Now().Format("05.000"), verb, u.Dst, u.Gw))
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}
