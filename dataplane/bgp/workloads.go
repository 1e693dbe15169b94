package bgp

import (
	"net/netip"
	"sync"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp/filter"
)

// workloadsOf returns the addresses of the peers that are workloads, sorted as the peers are.
func workloadsOf(peers []filtered) (list []netip.Addr) {
	for _, f := range peers {
		if f.device != "" {
			list = append(list, f.peer)
		}
	}
	return list
}

// aboutWorkloads says whether a rule for exports is about the routes of workloads. The server knows neither the interface nor the metric of a
// route, so an Accept counts only if it is about all of these routes, and a Reject if it may be about one.
func aboutWorkloads(rule calc.RouteRule, peers []filtered) bool {
	if rule.Priority != 0 && rule.Accept {
		return false
	}
	if rule.Interface == "" {
		return true
	}
	some, all := false, true
	for _, f := range peers {
		if f.device == "" {
			continue
		}
		_, about := filter.Judge([]calc.RouteRule{{Interface: rule.Interface}}, filter.Route{Interface: f.device})
		some, all = some || about, all && about
	}
	return some && (all || !rule.Accept)
}

// judgedBy is marksText for a peer whose routes get these marks: any peer of a reflector, otherwise a workload.
func (s *Speaker) judgedBy(want calc.BGP, device string) string {
	if device == "" && !want.ClusterID.IsValid() {
		return ""
	}
	return s.marksText(want)
}

// heardWorkload says whether a workload has told its routes since this Speaker has started, or is closed.
func (s *Speaker) heardWorkload(name string) bool {
	if p, there := s.peers[name]; there && s.hasTold(p) {
		s.heard[name] = true
	}
	return s.heard[name] || s.staysClosed(name)
}

// devices knows the interfaces to the peers that are workloads.
type devices struct {
	mu   sync.Mutex
	list map[netip.Addr]string
}

func (d *devices) set(peer netip.Addr, device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.list, peer)
	if device == "" {
		return
	}
	if d.list == nil {
		d.list = map[netip.Addr]string{}
	}
	d.list[peer] = device
}

func (d *devices) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.list)
}

// nextHop returns the next hop of a route of a workload: the workload itself, on its interface. It returns false for other peers.
func (d *devices) nextHop(peer netip.Addr) (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	device, is := d.list[peer]
	if !is {
		return netip.Addr{}, false
	}
	return calc.OnInterface(peer, device), true
}

// waysOf reads an event of GoBGP about the best paths, see routesOf. Routes of workloads lead to the workload by its interface. A route of one
// whose session has just been removed has the plain address of the workload as its next hop, which is not used: only routes of felix lead
// there.
func (g *gobgpServer) waysOf(paths []*api.Path) map[netip.Prefix][]Way {
	routes := routesOf(paths)
	for _, ways := range routes {
		for i, way := range ways {
			if hop, is := g.devices.nextHop(way.Neighbour); is {
				ways[i].NextHop = hop
			}
		}
	}
	return routes
}
