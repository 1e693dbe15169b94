package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
)

// newCable makes two hosts that only a cable connects, without addresses but the link-local ones of its ends. Each host runs felix as its own
// node, and the other host is its peer.
func newCable(t *testing.T, as [2]int) (hosts [2]*site, start [2]func() *felix) {
	sites := newSites(t, 2)
	lab.Cable(sites[0].host, "cable", sites[1].host, "cable")
	objects := `
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms6}
spec: {cidr: "fd65::/64"}
`
	for i := range hosts {
		this, other := i+1, 2-i
		hosts[i] = sites[i]
		upOnly(hosts[i].host, "cable", hostLL(this))
		hosts[i].host.Up("lo", fmt.Sprintf("10.255.0.%d/32", this))
		start[i] = func() *felix {
			return hosts[i].start(fmt.Sprintf("FELIX_IP=10.255.0.%d/32", this), fmt.Sprint("FELIX_ASNUMBER=", as[i]))
		}
		objects += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: from-host%d}
spec: {node: host%[1]d, peerIP: "%s%%cable", asNumber: %d}
`, this, hostLL(other), as[other-1])
	}
	hosts[0].apply(objects)
	return hosts, start
}

// awaitOver waits until the kernel of a host routes a prefix over the cable, to the link-local address of the other host.
func (l *site) awaitOver(prefix, address string) {
	l.Helper()
	family := "-4"
	if netip.MustParsePrefix(prefix).Addr().Is6() {
		family = "-6"
	}
	lab.Await(l, func() error {
		if have := l.host.MustRun("ip", family, "route", "show", prefix, "proto", "87"); !strings.Contains(have, address+" dev cable ") {
			return fmt.Errorf("the route to %s is %q", prefix, have)
		}
		return nil
	})
}

// Two nodes with a cable between them need no router and no address on it, in one AS or in two. Nothing is lost while either felix is killed and
// restarted.
func TestTwoNodesOnACableWithoutAddressesReachEachOther(t *testing.T) {
	for name, as := range map[string][2]int{"one AS": {64600, 64600}, "two ASes": {64601, 64602}} {
		t.Run(name, func(t *testing.T) {
			hosts, start := newCable(t, as)
			one, two := hosts[0], hosts[1]
			agents := [2]*felix{start[0](), start[1]()}
			a, b := one.plug("a", "10.65.0.2"), two.plug("b", "10.65.0.66")
			a6, b6 := one.plug("a6", "fd65::2"), two.plug("b6", "fd65::42")
			one.awaitOver("10.65.0.64/26", hostLL(2))
			one.awaitOver("fd65::40/122", hostLL(2))
			two.awaitOver("10.65.0.0/26", hostLL(1))
			two.awaitOver("fd65::/122", hostLL(1))
			for _, f := range agents {
				f.await(sessions(1))
			}
			lab.Await(t, func() error {
				for _, pair := range [][2]*lab.VM{{a, b}, {b, a}, {a6, b6}, {b6, a6}} {
					if !pair[0].Reaches("udp", pair[1].Addresses[0], port) {
						return errors.New("the VMs do not reach each other")
					}
				}
				return nil
			})
			four, six := a.Stream(b.Addresses[0], port, 2*time.Millisecond), a6.Stream(b6.Addresses[0], port, 2*time.Millisecond)
			for i := range agents {
				agents[i].kill()
				began := time.Now()
				agents[i] = start[i]()
				for _, f := range agents {
					f.await(sessions(1))
				}
				t.Logf("host%d is connected again %v after the kill", i+1, time.Since(began).Round(time.Millisecond))
			}
			for family, stream := range map[string]*lab.Stream{"IPv4": four, "IPv6": six} {
				if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
					t.Errorf("%s: %d of %d packets were lost", family, lab.Lost(sent), len(sent))
				}
			}
		})
	}
}
