package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// Measures how long a new workload is unknown to the router: from sending its endpoint to etcd to the route in the kernel of a router
// that runs BIRD. Each workload has an address of another node's block, so each is announced by itself.
func BenchmarkNewWorkloadAtTheRouter(b *testing.B) {
	const workloads = 200
	for b.Loop() {
		l := newSite(b)
		l.startEtcd()
		l.apply(openProfile + `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/16, blockSize: 24}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: router}
spec: {peerIP: ` + clientAddress + `, asNumber: 65001}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
`)
		other := &site{TB: b, host: lab.NewHost(b), client: lab.NewHost(b), binary: l.binary, dir: l.dir + "-2", node: "host2", cluster: []string{l.endpoint()}, store: l.store}
		b.Cleanup(other.leaveNothing)
		other.host.Up("lo", "198.51.100.2/32")
		f2 := other.startSynced("FELIX_IP=198.51.100.2/32")
		other.plug("owner", "10.65.0.254") // takes the block for host2
		f2.awaitEnforced("cali-owner")

		router.StartBIRD(b, l.client, b.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol bgp session { local %[1]s as 65001; neighbor %[2]s as 64512; ipv4 { import all; export none; }; }
`, clientAddress, hostAddress))
		f := l.startSynced("FELIX_IP=" + hostAddress + "/24")
		f.await(sessions(1))
		arrivals := followArrivals(b, l.client)
		for i := range workloads {
			l.host.Plug(fmt.Sprintf("cali-w%d", i))
		}
		var took []time.Duration
		for i := range workloads {
			address := netip.AddrFrom4([4]byte{10, 65, 0, byte(i + 1)})
			began := time.Now()
			l.place(fmt.Sprintf("w%d", i), address.String())
			took = append(took, arrivals(address).Sub(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[workloads/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[workloads*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(0, "ns/op")
		f.kill()
		f2.kill()
	}
}

// followArrivals notes when routes to single addresses come into the host's kernel. The function waits for the one to an address.
func followArrivals(b *testing.B, on *lab.Host) (of func(netip.Addr) time.Time) {
	updates, done := make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	ns := on.Namespace()
	must(b, netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{Namespace: &ns}))
	b.Cleanup(func() { close(done) })
	return func(address netip.Addr) time.Time {
		end := time.After(lab.Patience)
		for {
			select {
			case u := <-updates:
				if u.Dst != nil && u.Dst.String() == netip.PrefixFrom(address, 32).String() {
					return time.Now()
				}
			case <-end:
				b.Fatalf("no route to %v came", address)
			}
		}
	}
}

// Measures how long two agents need to speak with each other again after a restart, in turn of either side.
func BenchmarkSessionAfterARestart(b *testing.B) {
	const restarts = 20
	for b.Loop() {
		sites := newSites(b, 2)
		lab.Cable(sites[0].host, "rack", sites[1].host, "rack")
		var running [2]*felix
		start := func(i int) {
			address := fmt.Sprintf("198.51.100.%d/24", i+1)
			running[i] = sites[i].start("FELIX_IP=" + address)
		}
		for i, l := range sites {
			l.host.Up("rack", fmt.Sprintf("198.51.100.%d/24", i+1))
			start(i)
			l.plug(fmt.Sprint("vm", i), fmt.Sprintf("10.65.%d.2", i))
		}
		both := func() {
			for _, f := range running {
				f.await(sessions(1))
			}
		}
		both()
		var took []time.Duration
		for i := range restarts {
			running[i%2].kill()
			began := time.Now()
			start(i % 2)
			both()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(took[restarts/2].Seconds(), "p50-s")
		b.ReportMetric(took[restarts-1].Seconds(), "max-s")
		b.ReportMetric(0, "ns/op")
		for _, f := range running {
			f.kill()
		}
	}
}

// Measures the processor time and the memory of an agent with 200 sessions of the mesh while nothing changes.
func BenchmarkIdleMesh(b *testing.B) {
	const peers, pause = 200, 30 * time.Second
	for b.Loop() {
		l := newSite(b)
		l.startEtcd()
		center := lab.NewHost(b)
		bridge := center.Bridge("switch")
		lab.Cable(l.host, "rack", center, "felix")
		center.Join("felix", bridge)
		center.Up("felix")
		l.host.Up("rack", "10.70.0.10/16")
		var nodes string
		for i := range peers {
			peer, dev, address := lab.NewHost(b), fmt.Sprint("port", i), fmt.Sprintf("10.70.1.%d", i+1)
			lab.Cable(peer, "eth0", center, dev)
			center.Join(dev, bridge)
			center.Up(dev)
			peer.Up("eth0", address+"/16")
			router.StartBIRD(b, peer, b.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol bgp session { local %[1]s as 64512; neighbor 10.70.0.10 as 64512; ipv4 { import all; export none; }; }
`, address))
			nodes += fmt.Sprintf("---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n%d}\nspec: {bgp: {ipv4Address: %s/16}}\n", i, address)
		}
		l.apply(openProfile + "\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: vms}\nspec: {cidr: 10.65.0.0/16}\n" + nodes)
		f := l.startSynced("FELIX_IP=10.70.0.10/16")
		began := time.Now()
		f.await(func(s *agentv1.StatusResponse) error {
			up := 0
			for _, p := range s.Peers {
				if p.State == "established" {
					up++
				}
			}
			if up != peers {
				return fmt.Errorf("%d sessions are up", up)
			}
			return nil
		})
		b.ReportMetric(time.Since(began).Seconds(), "all-up-s")
		lab.LetPass(10 * time.Second) // the sessions settle
		before := f.processorTime()
		lab.LetPass(pause)
		b.ReportMetric(100*(f.processorTime()-before).Seconds()/pause.Seconds(), "cpu-%")
		b.ReportMetric(float64(f.resident())/(1<<20), "resident-MB")
		b.ReportMetric(0, "ns/op")
		f.kill()
	}
}
