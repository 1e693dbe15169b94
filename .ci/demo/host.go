package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace without a name: it exists as long as this process or one that it started in it.
// All work in it is done by one thread that never leaves it.
type host struct {
	name  string
	ns    netns.NsHandle
	calls chan func()
}

func newHost(name string) (*host, error) {
	h := &host{name: name, calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		h.ns, err = netns.New()
		ready <- err
		if err != nil {
			return
		}
		for call := range h.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("network namespace for %s: %w", name, err)
	}
	return h, h.do(func() error { return linkUp("lo") })
}

// do runs f inside the host. Sockets that f opens and processes that it starts stay there.
func (h *host) do(f func() error) error {
	result := make(chan error)
	h.calls <- func() { result <- f() }
	return <-result
}

func (h *host) close() {
	close(h.calls)
	h.ns.Close()
}

// start runs a program inside the host. It dies with the demo.
func (h *host) start(ctx context.Context, log string, env []string, args ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, h.do(cmd.Start)
}

// sysctl writes one setting of the host's network stack.
func (h *host) sysctl(name, value string) error {
	return h.do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", strings.ReplaceAll(name, ".", "/")), []byte(value), 0o644)
	})
}

// address gives an interface an address that is usable at once.
func (h *host) address(dev string, prefixes ...string) error {
	return h.do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		for _, text := range prefixes {
			addr, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("%s: address %s on %s: %w", h.name, text, dev, err)
			}
		}
		return linkUp(dev)
	})
}

// defaultRoute sends everything to the gateway, which need not be on a connected network.
func (h *host) defaultRoute(dev, gateway string) error {
	return h.do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway), Flags: int(netlink.FLAG_ONLINK)}
		if route.Gw.To4() == nil {
			route.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("%s: default route by %s: %w", h.name, gateway, err)
		}
		return nil
	})
}

// hasRoute says whether the host's kernel has a route to exactly this prefix.
func (h *host) hasRoute(prefix netip.Prefix) (found bool, err error) {
	err = h.do(func() error {
		family := netlink.FAMILY_V4
		if prefix.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		routes, err := netlink.RouteList(nil, family)
		for _, r := range routes {
			found = found || (r.Dst != nil && r.Dst.String() == prefix.String())
		}
		return err
	})
	return found, err
}

// cable connects two hosts by a veth pair.
func cable(a *host, devA, macA string, b *host, devB string) error {
	return a.do(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: devB, PeerNamespace: netlink.NsFd(b.ns)}
		link.Name = devA
		if macA != "" {
			link.HardwareAddr, _ = net.ParseMAC(macA)
		}
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("cable %s:%s to %s:%s: %w", a.name, devA, b.name, devB, err)
		}
		return linkUp(devA)
	})
}

func linkUp(dev string) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}
