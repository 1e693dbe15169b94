package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab"
)

// stage stands for the test that a lab belongs to: a failure ends the demo.
type stage struct{ cleanups []func() }

// failure is the value of the panic in Fatalf; main prints it.
type failure string

func (s *stage) Helper()                       {}
func (s *stage) Logf(string, ...any)           {} // the story says itself what matters
func (s *stage) Cleanup(f func())              { s.cleanups = append(s.cleanups, f) }
func (s *stage) Fatalf(text string, at ...any) { panic(failure(fmt.Sprintf(text, at...))) }
func (s *stage) Skip(reason ...any)            { panic(failure(fmt.Sprint(reason...))) }

// close cleans up in reverse order.
func (s *stage) close() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// host is a host of the lab that has a name for the reader.
type host struct {
	*lab.Host
	name string
}

// logFile opens a file for what a program prints.
func (s *stage) logFile(path string) *os.File {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { file.Close() })
	return file
}

// hasRoute says whether the host's kernel has a route to exactly this prefix.
func (h *host) hasRoute(prefix netip.Prefix) (found bool, err error) {
	err = h.eachRoute(prefix, func(netlink.Route) { found = true })
	return found, err
}

// gateway is the next hop of the route to exactly this prefix.
func (h *host) gateway(prefix netip.Prefix) (by string, err error) {
	err = h.eachRoute(prefix, func(r netlink.Route) {
		if r.Gw != nil {
			by = r.Gw.String()
		}
	})
	return by, err
}

func (h *host) eachRoute(prefix netip.Prefix, yield func(netlink.Route)) error {
	return h.Do(func() error {
		family := netlink.FAMILY_V4
		if prefix.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		routes, err := netlink.RouteList(nil, family)
		for _, r := range routes {
			if r.Dst != nil && r.Dst.String() == prefix.String() {
				yield(r)
			}
		}
		return err
	})
}
