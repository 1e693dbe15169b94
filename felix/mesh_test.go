package main

import (
	"fmt"
	"testing"
	"time"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

// Five hosts on a switch, with nothing but their Node objects, form a full mesh in which every VM reaches every other. A host that is
// taken out of the datastore is gone from the others' sessions and routes.
func TestFiveHostsOnASwitchAreAMesh(t *testing.T) {
	const hosts = 5
	sites := newSites(t, hosts)
	center := lab.NewHost(t)
	bridge := center.Bridge("switch")
	var felixes []*felix
	var vms []*lab.VM
	for i, l := range sites {
		dev := fmt.Sprint("port", i+1)
		lab.Cable(l.host, "rack", center, dev)
		center.Join(dev, bridge)
		center.Up(dev)
		l.host.Up("rack", fmt.Sprintf("198.51.100.%d/24", i+1))
		felixes = append(felixes, l.start(fmt.Sprintf("FELIX_IP=198.51.100.%d/24", i+1)))
		vms = append(vms, l.plug("vm", fmt.Sprintf("10.65.%d.2", i)))
	}
	for _, f := range felixes {
		f.await(sessions(hosts - 1))
	}
	reachAll(t, vms)

	stream := vms[0].Stream(vms[hosts-1].Addresses[0], port, 5*time.Millisecond)
	for i := range felixes[1:] { // all agents but the first restart at once
		felixes[i+1].kill()
		felixes[i+1] = sites[i+1].start(fmt.Sprintf("FELIX_IP=198.51.100.%d/24", i+2))
	}
	for _, f := range felixes {
		f.await(sessions(hosts - 1))
	}
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}

	last := hosts - 1
	felixes[last].kill()
	sites[last].delete("Node", "", sites[last].node)
	for i, f := range felixes[:last] {
		f.await(sessions(hosts - 2))
		sites[i].awaitNextHops(fmt.Sprintf("10.65.%d.0/26", last))
	}
	reachAll(t, vms[:last])
}

// sessions waits for so many sessions, all of them up, and for no problem.
func sessions(n int) func(*agentv1.StatusResponse) error {
	return func(s *agentv1.StatusResponse) error {
		up := 0
		for _, p := range s.Peers {
			if p.State == "established" {
				up++
			}
		}
		if up != n || len(s.Peers) != n || len(s.Problems) > 0 {
			return fmt.Errorf("%d of %d sessions are up, want %d; problems: %v", up, len(s.Peers), n, s.Problems)
		}
		return nil
	}
}

// reachAll waits until every VM reaches every other.
func reachAll(t *testing.T, vms []*lab.VM) {
	t.Helper()
	for i, from := range vms {
		for j, to := range vms {
			if i == j {
				continue
			}
			lab.Await(t, func() error {
				if !from.Reaches("udp", to.Addresses[0], port) {
					return fmt.Errorf("VM %d does not reach VM %d", i, j)
				}
				return nil
			})
		}
	}
}
