package dataplane

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
)

// plan is derived from the State and the interfaces. It is made anew when one of them changes.
type plan struct {
	pending  bool   // something that it follows from has changed
	revision uint64 // of the interfaces from which it was made
	links    interfaces.Links
	assigned map[int]interfaces.Assignment
	idle     interfaces.Idle
	routes   map[netip.Prefix]routes.Route
	waiting  map[netip.Prefix]string    // routes that cannot be programmed yet, and why
	names    map[uint64]calc.EndpointID // by the hash that stands in entries of interfaces
	of       map[calc.EndpointID][]int  // interfaces of an endpoint
	serial   int                        // grows with each plan
}

// replan makes the plan anew if an input has changed, and tells the tables which entries are wanted. It writes nothing to the
// kernel.
func (d *Driver) replan() {
	links, revision := d.watcher.Snapshot()
	if !d.plan.pending && d.plan.revision == revision && d.plan.assigned != nil {
		return
	}
	before := d.plan.links
	p := plan{
		links: links, revision: revision, serial: d.plan.serial + 1,
		names: map[uint64]calc.EndpointID{}, of: map[calc.EndpointID][]int{},
	}
	config := &d.state.Config
	p.assigned, p.idle = interfaces.Match(links, d.state.Endpoints, interfaces.Rules{
		Prefixes: config.InterfacePrefixes, Enforced: d.enforced, Uplinks: d.uplinks.memory.Reasons(),
	})
	d.noteIdle(p.idle)
	for id := range d.state.Endpoints {
		p.names[id.Hash()] = id
	}
	for index, a := range p.assigned {
		p.of[a.Endpoint] = append(p.of[a.Endpoint], index)
	}
	for hash, id := range d.plan.names { // endpoints that have just gone may still have entries
		if _, known := p.names[hash]; !known && d.mentioned(hash) {
			p.names[hash] = id
		}
	}
	d.plan, d.gatePending = p, true
	d.planRoutes()
	d.planSettings()
	d.planGuests()
	d.planPeering(before)
	d.locals.WantExactly(d.localsOf(links))
	d.rewriteRevived(before)
	d.needFirewalls()
}

// noteIdle keeps the time since when each endpoint has governed no interface.
func (d *Driver) noteIdle(idle interfaces.Idle) {
	since := map[calc.EndpointID]time.Time{}
	for id := range idle {
		since[id] = d.clock()
		if before, was := d.idleSince[id]; was {
			since[id] = before
		}
	}
	d.idleSince = since
}

// mentioned says whether an interface has an entry for an endpoint.
func (d *Driver) mentioned(hash uint64) bool {
	for _, g := range d.generations.all {
		for _, entry := range g.interfaces.Held() {
			if entry.Endpoint == hash {
				return true
			}
		}
	}
	return false
}

// workloads returns the interfaces of workloads by their names and by those that their endpoints give them, and those of them that are ports of a
// bridge or bond.
func (d *Driver) workloads() (found map[string]interfaces.Link, ports map[string]routes.Port) {
	found, ports = map[string]interfaces.Link{}, map[string]routes.Port{}
	for _, a := range d.plan.assigned {
		if a.Role != interfaces.Workload {
			continue
		}
		names := append([]string{a.Link.Name}, a.Link.AltNames...)
		if ep, there := d.state.Endpoints[a.Endpoint]; there {
			names = append(names, ep.Interface) // it may be the alias
		}
		for _, name := range names {
			found[name] = a.Link
			if a.Master != "" {
				ports[name] = routes.Port{Master: a.Master, Judged: a.Bridged}
			}
		}
	}
	return found, ports
}

// Routed returns the paths without those to bridged workloads: the network of their bridge leads to them, not this host. It must be called
// after Apply, on the loop.
func (d *Driver) Routed(paths map[netip.Prefix]calc.Path) map[netip.Prefix]calc.Path {
	_, ports := d.workloads()
	bridged := func(_ netip.Prefix, p calc.Path) bool { return p.Interface != "" && ports[p.Interface].Judged }
	for prefix, p := range paths {
		if bridged(prefix, p) {
			paths = maps.Clone(paths)
			maps.DeleteFunc(paths, bridged)
			break
		}
	}
	return paths
}

func (d *Driver) planRoutes() {
	loopback := 0
	if lo, there := d.plan.links.Named("lo"); there && lo.Up && len(d.state.Routes) > 0 {
		loopback = lo.Index
	}
	protocol := routes.Protocol(d.state.Config.DeviceRouteProtocol)
	if d.kernel.Use(protocol) {
		d.routes.Resync()
	}
	workloads, ports := d.workloads()
	d.plan.routes, d.plan.waiting = routes.Plan(d.state.Routes, workloads, ports, loopback, protocol, func(prefix netip.Prefix) int {
		if prefix.Addr().Is4() {
			return d.state.Config.RouteMetric4
		}
		return d.state.Config.RouteMetric6
	})
	d.routes.WantExactly(d.plan.routes)
}

func (d *Driver) planSettings() {
	var v4, v6 bool
	for prefix, route := range d.state.Routes {
		if route.Kind == calc.LocalWorkload {
			v4, v6 = v4 || prefix.Addr().Is4(), v6 || prefix.Addr().Is6()
		}
	}
	var links []interfaces.Link
	for _, a := range d.plan.assigned {
		if a.Role == interfaces.Workload && a.Endpoint != (calc.EndpointID{}) && a.Master == "" {
			links = append(links, a.Link)
		}
	}
	d.settings.WantExactly(interfaces.Sysctls(links, v4, v6))
}

// rewriteRevived has the routes of interfaces written again that were gone or down meanwhile: the kernel has removed these
// routes without a notification.
func (d *Driver) rewriteRevived(before interfaces.Links) {
	for prefix, route := range d.plan.routes {
		old, known := before[route.Interface]
		if known && old.Life != d.plan.links[route.Interface].Life {
			d.routes.Rewrite(prefix)
		}
	}
}

// planGate makes the gate's rules: every workload interface, those that are ready, and the pools.
func (d *Driver) planGate() gate.Rules {
	rules := gate.Rules{
		Mark: d.Mark, HostMark: d.HostMark, Prefixes: d.state.Config.InterfacePrefixes, Gateway: routes.GatewayAddress,
	}
	rules.Forward = len(d.firewalls.dropping) > 0
	rules.Ports, rules.Bridges = d.portsErr == nil, d.bridges()
	// Before the input is ready, the programs in force follow the former configuration. Those of an older version set no such mark.
	if d.state.Ready && !d.state.Config.ToHost && !d.unmarked {
		rules.ToHostMark = d.ToHostMark
	}
	for _, a := range d.plan.assigned {
		if a.Role == interfaces.Workload {
			rules.Names = append(rules.Names, a.Link.Name)
		}
	}
	for id, ep := range d.state.Endpoints { // also before the interface exists
		if id.Kind == api.KindWorkloadEndpoint && ep.Interface != "" && d.mayBeWorkload(ep.Interface) {
			rules.Names = append(rules.Names, ep.Interface)
		}
	}
	rules.Ready = slices.Collect(maps.Keys(d.enforced))
	// A prefix that also names an interface of the host would cut the host off. Its workloads are closed by their full names.
	rules.Prefixes = slices.DeleteFunc(slices.Clone(rules.Prefixes), func(p string) bool {
		for _, a := range d.plan.assigned {
			if a.Role != interfaces.Workload && len(p) <= len(a.Link.Name) && a.Link.Name[:len(p)] == p {
				return true
			}
		}
		return false
	})
	for prefix, pool := range d.state.Pools {
		rules.Pools = append(rules.Pools, prefix)
		if pool.NATOutgoing {
			rules.NAT = append(rules.NAT, prefix)
		}
	}
	return rules
}

// bridges returns the names of the interfaces by which packets of bridged workloads come to the host: their bridges, and what was made on
// them, such as VLANs.
func (d *Driver) bridges() (names []string) {
	for _, a := range d.plan.assigned {
		if !a.Bridged {
			continue
		}
		names = append(names, a.Master)
		for _, link := range d.plan.links {
			if link.On == a.Link.Master {
				names = append(names, link.Name)
			}
		}
	}
	return names
}

func (d *Driver) mayBeWorkload(name string) bool {
	link, there := d.plan.links.Named(name)
	return !there || d.plan.assigned[link.Index].Role == interfaces.Workload
}

// planInterfaces tells a generation's tables which entry each interface must have. After a new plan it goes through all
// interfaces, otherwise through those of the endpoints in masksPending, which it empties.
func (d *Driver) planInterfaces(g *generation) {
	endpoints := g.masksPending
	g.masksPending = nil
	if g.planned == d.plan.serial {
		for _, id := range endpoints {
			for _, index := range d.plan.of[id] {
				if entry, ok := d.entry(g, d.plan.assigned[index]); ok {
					g.interfaces.Want(uint32(index), entry)
				}
			}
		}
		return
	}
	g.planned = d.plan.serial
	sources, nets := map[layout.SourceKey]uint8{}, map[layout.SourceNetKey]uint8{}
	for index, a := range d.plan.assigned {
		if entry, ok := d.entry(g, a); ok {
			g.interfaces.Want(uint32(index), entry)
		}
		if a.Role != interfaces.Workload {
			continue
		}
		ep := d.state.Endpoints[a.Endpoint]
		for _, network := range d.sourceNets(a) {
			nets[bpf.SourceNetKeyOf(uint32(index), network)] = 1
		}
		for _, address := range ep.Addresses {
			sources[layout.SourceKey{Ifindex: uint32(index), Addr: bpf.Address(address)}] = 1
		}
	}
	g.sources.WantExactly(sources)
	g.sourceNets.WantExactly(nets)
}

// dropEntries stops wanting the entries of interfaces without policy, once no program runs there.
func (d *Driver) dropEntries(g *generation) {
	for index := range g.interfaces.Wanted() {
		if _, attached := d.links.Holds(int(index)); !attached && d.plan.assigned[int(index)].Role == interfaces.None {
			g.interfaces.Unwant(index)
		}
	}
}

// governs says whether the endpoint of an interface's entry is the one that governs it now.
func (d *Driver) governs(index uint32, entry layout.Iface) bool {
	a := d.plan.assigned[int(index)]
	if a.Endpoint == (calc.EndpointID{}) {
		return entry.Endpoint == 0
	}
	return entry.Endpoint == a.Endpoint.Hash()
}

// entry makes the entry that an interface must have in a generation. It returns false while the interface can have none: no
// policy concerns it, or the masks of its host endpoint are not known yet.
func (d *Driver) entry(g *generation, a interfaces.Assignment) (layout.Iface, bool) {
	entry := layout.Iface{Ifindex: uint32(a.Link.Index)}
	if a.Link.Layer3 {
		entry.Flags |= layout.IfaceLayer3
	}
	if a.Endpoint != (calc.EndpointID{}) {
		entry.Endpoint = a.Endpoint.Hash()
	}
	masks, judged := g.masks[a.Endpoint]
	entry.Mask = masks.Mask
	entry.PeeringPort = d.peering.ports[a.Link.Name]
	switch a.Role {
	case interfaces.None:
		return entry, false
	case interfaces.Host:
		return entry, judged // the masks of a closed host endpoint let only failsafe ports through
	}
	config := &d.state.Config
	for flag, set := range map[uint32]bool{
		layout.IfaceWorkload: true, layout.IfaceClosed: !judged || masks.Closed != "" || a.Closed != "",
		layout.IfaceAllowVXLAN: config.AllowVXLAN, layout.IfaceAllowIPIP: config.AllowIPIP, layout.IfaceToHost: config.ToHost, layout.IfaceBridged: a.Bridged,
		layout.IfaceSourceNets: len(d.sourceNets(a)) > 0,
		layout.IfaceAskAgent:   d.answers(a),
		layout.IfaceAllowTags:  a.TakesTags(), layout.IfaceAllowNotIP: a.Bridged && config.BridgedNotIP,
	} {
		if set {
			entry.Flags |= flag
		}
	}
	if mac, err := net.ParseMAC(d.state.Endpoints[a.Endpoint].MAC); err == nil && len(mac) == len(entry.Mac) {
		entry.Flags |= layout.IfaceCheckMAC
		copy(entry.Mac[:], mac)
	}
	return entry, true
}
