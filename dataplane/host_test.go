package dataplane

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/internal/lab"
)

// host is where a Driver runs, with virtual machines behind it. The test's goroutine is in it.
type host struct {
	*testing.T
	*lab.Host
	pins string
	log  *logrus.Entry
}

func newHost(t *testing.T) *host {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	if testing.Verbose() {
		logger.SetOutput(t.Output())
	}
	h := &host{T: t, Host: lab.Enter(t), log: logrus.NewEntry(logger)}
	h.pins = h.pinDir()
	return h
}

// pinDir makes a directory in which a Driver may pin. The test's cleanup removes it with its contents.
func (h *host) pinDir() string {
	h.Helper()
	dir := filepath.Join(h.TempDir(), "bpf")
	h.Cleanup(func() {
		pins, err := bpf.OpenPins(dir)
		must(h, err)
		must(h, pins.Remove())
	})
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vm is a virtual machine behind one interface of the host.
type vm struct {
	*lab.VM
	h *host
}

// plug adds a VM with these addresses.
func (h *host) plug(iface string, addresses ...string) *vm {
	h.Helper()
	return &vm{VM: h.Plug(iface, addresses...), h: h}
}

func (h *host) until(what string, is func() bool) {
	h.Helper()
	lab.Until(h, what, is)
}

// aTick is the time between two datagrams of a stream.
const aTick = 2 * time.Millisecond
