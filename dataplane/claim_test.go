package dataplane

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// With this variable set, a child process holds the name of an agent until its input ends.
const holdsName = "MARGAY_TEST_HOLDS_NAME"

func TestMain(m *testing.M) {
	if os.Getenv(holdsName) != "" {
		held, err := net.Listen("unix", claimName)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		held.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nameHeld starts a process of another user that holds the name in the host's network namespace.
func (h *host) nameHeld(capabilities ...uintptr) (pid int, release func()) {
	h.Helper()
	child := exec.Command("/proc/self/exe")
	child.Env = []string{holdsName + "=yes"}
	child.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: capabilities, Pdeathsig: syscall.SIGKILL,
	}
	in, err := child.StdinPipe()
	must(h, err)
	out, err := child.StdoutPipe()
	must(h, err)
	must(h, child.Start())
	said := make([]byte, 5)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "held\n" {
		h.Fatalf("the child printed %q: %v", said, err)
	}
	return child.Process.Pid, func() { in.Close(); child.Wait() }
}

func refuses(t testing.TB, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not contain %q", err, text)
		}
	}
}

func TestThereIsOneDriverForEachNamespaceAndPinDirectory(t *testing.T) {
	h := newHost(t)
	who := fmt.Sprintf("(process %d)", os.Getpid())
	d := h.start(Options{})
	for _, dir := range []string{h.pins, h.pinDir()} {
		_, err := New(Options{PinDir: dir, Log: h.log})
		refuses(t, err, who, "programs this network namespace", "stop it first")
	}
	m := h.plug("cali1", "10.65.0.1")
	must(t, m.Do(func() error {
		_, err := New(Options{PinDir: h.pins, Log: h.log})
		refuses(t, err, who, "pins to "+h.pins, "--pin-dir")
		other, err := New(Options{PinDir: h.pinDir(), Log: h.log})
		if err != nil {
			t.Errorf("a driver with its own namespace and pin directory fails: %v", err)
			return nil
		}
		return other.Close()
	}))
	must(t, d.Close())
	must(t, h.start(Options{}).Close())
}

// Any user may take a name in the network namespace. Policy must be enforced nevertheless.
func TestAnUnprivilegedUserCannotStopAnAgentByTakingItsName(t *testing.T) {
	h := newHost(t)
	pid, release := h.nameHeld()
	d := h.run(newWorld(), Options{})
	problems := strings.Join(d.Status().Problems, "\n")
	if want := fmt.Sprintf("process %d of user 65534, which is no felix", pid); !strings.Contains(problems, want) {
		t.Errorf("problems %q do not contain %q", problems, want)
	}
	must(t, d.Uninstall())
	release()
	d = h.start(Options{})
	if problems := d.Status().Problems; len(problems) > 0 {
		t.Errorf("problems after the name is free: %v", problems)
	}
	must(t, d.Close())
}

func TestAnAgentWithOnlyNetAdminHoldsTheName(t *testing.T) {
	h := newHost(t)
	pid, release := h.nameHeld(unix.CAP_NET_ADMIN)
	defer release()
	_, err := New(Options{PinDir: h.pins, Log: h.log})
	refuses(t, err, fmt.Sprintf("another felix (process %d)", pid))
}
