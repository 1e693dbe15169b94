package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp"
)

// mostRoutes is the largest number of routes of a family in a CalicoNodeStatus: etcd takes values of at most 1.5 MiB.
const mostRoutes = 2500

// nodeStatus returns the status of a CalicoNodeStatus with the wanted classes filled in, in Calico's words. Other classes stay as they
// were. received has the routes of peers; only the class Routes needs them. The routes of the status come apart: nodeRoutes sorts and limits
// them outside of the loop.
func (a *agent) nodeStatus(was api.CalicoNodeStatusStatus, classes []string, received []bgp.Received) (now api.CalicoNodeStatusStatus, routes []api.NodeRoute, err error) {
	now = was
	if slices.Contains(classes, "Agent") {
		now.Agent = api.NodeAgentStatus{BIRDV4: a.daemonStatus(a.state.BGP.V4), BIRDV6: a.daemonStatus(a.state.BGP.V6)}
	}
	if slices.Contains(classes, "BGP") {
		now.BGP = nodeBGPStatus(a.speaker.Status())
	}
	if slices.Contains(classes, "Routes") {
		kernel, err := a.driver.Dump(0, dataplane.TableRoutes)
		if err != nil {
			return was, nil, err
		}
		routes = append(ownRoutes(kernel.Routes), a.receivedRoutes(received)...)
	}
	return now, routes, nil
}

// daemonStatus is the state of felix's BGP speaker for one family. It is not ready without an address of the family, or if it
// could not be brought to the wanted state.
func (a *agent) daemonStatus(address netip.Prefix) api.BGPDaemonStatus {
	if !address.IsValid() || !a.speaker.Running() {
		return api.BGPDaemonStatus{State: "NotReady"}
	}
	return api.BGPDaemonStatus{
		State: "Ready", Version: "felix " + version, RouterID: a.state.BGP.RouterID.String(),
		LastBootTime: calicoTime(a.started), LastReconfigurationTime: calicoTime(a.bgpChangedAt),
	}
}

// calicoTime writes a time as BIRD does. It is empty for a time that is not known.
func calicoTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

func nodeBGPStatus(peers []bgp.PeerStatus) (s api.NodeBGPStatus) {
	for _, p := range peers {
		list, up, down := &s.PeersV4, &s.NumberEstablishedV4, &s.NumberNotEstablishedV4
		if p.Address.Is6() {
			list, up, down = &s.PeersV6, &s.NumberEstablishedV6, &s.NumberNotEstablishedV6
		}
		state := p.State
		switch state {
		case "Established":
			*up++
		case "Failed": // felix could not begin the session; Calico has no word for that
			state = "Idle"
			*down++
		default:
			*down++
		}
		*list = append(*list, api.NodePeerStatus{PeerIP: p.Address.String(), Type: peerType(p.Name), State: state, Since: calicoTime(p.Since)})
	}
	return s
}

// peerType is the type of a session in a CalicoNodeStatus.
func peerType(name string) string {
	switch sessionType(name) {
	case meshType:
		return "NodeMesh"
	case "global":
		return "GlobalPeer"
	}
	return "NodePeer"
}

// ownRoutes returns the routes of felix that no BGP peer has sent.
func ownRoutes(routes []dataplane.Route) (list []api.NodeRoute) {
	for _, r := range routes {
		route := api.NodeRoute{Type: "RIB", Destination: r.Destination.String(), Gateway: "N/A", Interface: r.Interface,
			LearnedFrom: &api.NodeRouteOrigin{SourceType: "Kernel"}}
		if r.State == "programmed" {
			route.Type = "FIB"
		}
		switch r.Kind {
		case "bgp":
			continue
		case "blackhole":
			route.Interface, route.LearnedFrom.SourceType = "blackhole", "Static"
		case "node":
			if gateway, device, both := strings.Cut(r.Interface, " "); both {
				route.Gateway, route.Interface = gateway, device
			}
		}
		list = append(list, route)
	}
	return list
}

// receivedRoutes returns the routes of BGP peers: FIB those that the kernel has, RIB the others.
func (a *agent) receivedRoutes(received []bgp.Received) (list []api.NodeRoute) {
	kernel := a.driver.Learned()
	for _, r := range received {
		route := api.NodeRoute{Type: "RIB", Destination: r.Prefix.String(), LearnedFrom: &api.NodeRouteOrigin{SourceType: "BGPPeer", PeerIP: r.Neighbour.String()}}
		if strings.HasPrefix(r.Peer, bgp.MeshPrefix) {
			route.LearnedFrom.SourceType = "NodeMesh"
		}
		if r.NextHop.IsValid() {
			route.Gateway, route.Interface = gatewayText(r.NextHop), kernel.Interfaces(r.NextHop)
		}
		if state, _ := kernel.Of(r.Prefix, r.NextHop); r.Best && state == "programmed" {
			route.Type = "FIB"
		}
		list = append(list, route)
	}
	return list
}

// gatewayText is a next hop without the interface of a workload, which the route has beside it.
func gatewayText(next netip.Addr) string {
	if next.Is4In6() {
		next = next.WithZone("").Unmap()
	}
	return next.String()
}

// firstReceived returns those routes of which nodeRoutes may keep any: the first mostRoutes of each family, in its order.
func firstReceived(all []bgp.Received) (first []bgp.Received) {
	type place struct {
		text string
		at   int
	}
	order := make([]place, len(all))
	for i, r := range all {
		order[i] = place{r.Prefix.String() + " ", i}
		if r.NextHop.IsValid() {
			order[i].text += r.NextHop.String()
		}
	}
	slices.SortFunc(order, func(a, b place) int { return cmp.Or(strings.Compare(a.text, b.text), a.at-b.at) })
	var count [2]int
	for _, o := range order {
		family := 0
		if all[o.at].Prefix.Addr().Is6() {
			family = 1
		}
		if count[family]++; count[family] <= mostRoutes {
			first = append(first, all[o.at])
		}
	}
	return first
}

// nodeRoutes sorts routes by family, destination and gateway, and keeps the first mostRoutes of each family.
func nodeRoutes(all []api.NodeRoute) (s api.NodeRoutesStatus) {
	slices.SortStableFunc(all, func(a, b api.NodeRoute) int {
		return strings.Compare(a.Destination+" "+a.Gateway, b.Destination+" "+b.Gateway)
	})
	for _, r := range all {
		list := &s.RoutesV4
		if strings.Contains(r.Destination, ":") {
			list = &s.RoutesV6
		}
		if len(*list) < mostRoutes {
			*list = append(*list, r)
		}
	}
	return s
}
