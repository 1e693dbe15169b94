package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netns"

	"github.com/margay-project/margay/internal/skip"
)

// T is the part of testing.TB that a lab uses. A program that is no test, such as the demo, brings its own.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// Host is a network namespace, with the test that it belongs to.
type Host struct {
	t  T
	mu sync.RWMutex // held while ns is used, and to close it: a connection that retries may outlive the test
	ns netns.NsHandle
}

// NewHost makes a host whose loopback interface is up. Without root the test is skipped.
func NewHost(t T) *Host {
	t.Helper()
	needRoot(t)
	h := &Host{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		h.ns, err = netns.New()
		made <- err
	}()
	if err := <-made; err != nil {
		skip.For(t, "make a network namespace: %v", err)
	}
	t.Cleanup(h.close)
	h.Up("lo")
	return h
}

// Enter makes a host and moves the calling goroutine into it until the test ends. The goroutine keeps its thread; other
// goroutines of the test are elsewhere.
func Enter(t T) *Host {
	t.Helper()
	h := NewHost(t)
	runtime.LockOSThread()
	before, err := netns.Get()
	if err == nil {
		err = netns.Set(h.ns)
	}
	h.check(err, "enter a host")
	t.Cleanup(func() {
		if err := netns.Set(before); err == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		_ = before.Close()
	})
	return h
}

// Here is the host that the calling goroutine is in. The goroutine must be locked to its thread, as after Enter.
func Here(t T) *Host {
	t.Helper()
	h := &Host{t: t}
	var err error
	h.ns, err = netns.Get()
	h.check(err, "open the network namespace")
	t.Cleanup(h.close)
	return h
}

func (h *Host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.ns.Close()
}

func needRoot(t T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.For(t, "needs root to make network namespaces")
	}
}

// Namespace is a handle of the host, for netlink. It is closed with the test.
func (h *Host) Namespace() netns.NsHandle { return h.ns }

// Do calls f inside the host, on a thread of its own. Sockets that f opens stay on the host. For programs use Start: they
// would die with the thread.
func (h *Host) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := errors.New("the function ended its goroutine")
		defer func() { done <- err }()
		h.mu.RLock()
		err = netns.Set(h.ns)
		h.mu.RUnlock()
		if err != nil {
			err = fmt.Errorf("enter a host: %w", err)
			return
		}
		err = f()
	}()
	return <-done
}

// Must is Do for what must succeed.
func (h *Host) Must(f func() error) {
	h.t.Helper()
	if err := h.Do(f); err != nil {
		h.t.Fatalf("%v", err)
	}
}

// Sysctl writes a setting of the host's network, for example "ipv4/ip_forward".
func (h *Host) Sysctl(name, value string) {
	h.t.Helper()
	h.Must(func() error { return writeSysctl(name, value) })
}

func writeSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+strings.TrimPrefix(name, "/"), []byte(value), 0o644)
}

// Forward makes the host forward packets of both families.
func (h *Host) Forward() {
	h.t.Helper()
	h.Sysctl("ipv4/ip_forward", "1")
	h.Sysctl("ipv6/conf/all/forwarding", "1")
}

// ProxyARP makes the host answer at once, on an interface, for every address that it has a route to by another interface.
func (h *Host) ProxyARP(dev string) {
	h.t.Helper()
	h.Sysctl("ipv4/conf/"+dev+"/proxy_arp", "1")
	h.Sysctl("ipv4/neigh/"+dev+"/proxy_delay", "0")
}

func (h *Host) check(err error, format string, about ...any) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", fmt.Sprintf(format, about...), err)
	}
}
