package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
)

// Dump shows the state in force, in terms of policy.
type Dump struct {
	Endpoints   []calc.Endpoint // Closed also says why the classifier closed one
	Policies    []Policy
	Sets        []Set
	Rules       []Rule
	Connections []Connection
	Routes      []Route
	Truncated   bool             // there are more connections
	Unread      map[string]error // tables that could not be read
}

// Policy is an active policy or profile. The Driver never sees those that apply to no local endpoint.
type Policy struct {
	calc.Policy
	Endpoints int // local endpoints it applies to
}

// Set is an address set.
type Set struct {
	ID      calc.SetID
	Members []netip.Prefix // sorted
}

// Rule is a rule in force, with the packets and bytes that it decided.
type Rule struct {
	ID             calc.RuleID
	Rule           *calc.Rule // nil for the ends of tiers and profiles
	Action         string     // Allow, Deny, Pass or Log
	Packets, Bytes uint64
}

// Connection is a tracked connection.
type Connection struct {
	Protocol        uint8
	Opener, Replier netip.AddrPort
	State           string    // syn-sent, established, closing, reset, unreplied, replied, revoked
	Packets, Bytes  [2]uint64 // from the opener, from the replier
	Age, Idle       time.Duration
	Approvals       []Approval // in force, one for each endpoint that judged it
	Refusals        []Approval // revoked: the rule denies the connection now
	ICMPType        uint8
	ICMPID          uint16
}

// Approval is the verdict of one endpoint's policy on a connection.
type Approval struct {
	Endpoint  calc.EndpointID // zero: one that is no longer known
	Interface string
	Stage     string
	Rule      calc.RuleID // zero: none, or one that is no longer in force
	Current   bool        // judged under the policy that is in force now
}

// Route is a route of felix and its state in the kernel.
type Route struct {
	Destination netip.Prefix
	Interface   string
	Kind        string // workload, blackhole, gateway, bgp, node
	State       string // programmed, failed, waiting, not used
	Error       string
}

// Tables of a Dump.
const (
	TableEndpoints   = "endpoints"
	TablePolicies    = "policies"
	TableSets        = "sets"
	TableRules       = "rules"
	TableConnections = "connections"
	TableRoutes      = "routes"
)

// Dump reads the named tables (all, if none is named) and at most so many connections. No change is applied meanwhile.
func (d *Driver) Dump(maxConnections int, tables ...string) (Dump, error) {
	asked := func(name string) bool { return len(tables) == 0 || slices.Contains(tables, name) }
	dump := Dump{Unread: map[string]error{}}
	note := func(name string, err error) {
		if err != nil {
			dump.Unread[name] = err
		}
	}
	if asked(TableEndpoints) {
		dump.Endpoints = d.dumpEndpoints()
	}
	if asked(TablePolicies) {
		dump.Policies = d.dumpPolicies()
	}
	if asked(TableSets) {
		dump.Sets = d.dumpSets()
	}
	if asked(TableRules) && d.shared != nil {
		rules, err := d.dumpRules()
		dump.Rules = rules
		note(TableRules, err)
	}
	if asked(TableConnections) && d.shared != nil {
		note(TableConnections, d.dumpConnections(&dump, maxConnections))
	}
	if asked(TableRoutes) {
		dump.Routes = d.dumpRoutes()
	}
	return dump, errors.Join(slices.Collect(maps.Values(dump.Unread))...)
}

func (d *Driver) dumpEndpoints() (list []calc.Endpoint) {
	for _, id := range d.sortedIDs() {
		ep := d.state.Endpoints[id]
		ep.Closed = cmp.Or(ep.Closed, d.closedBy(id))
		list = append(list, ep)
	}
	return list
}

func (d *Driver) dumpPolicies() (list []Policy) {
	users := map[calc.PolicyID]map[calc.EndpointID]struct{}{}
	for id, ep := range d.state.Endpoints {
		for policy := range policiesOf(ep) {
			if users[policy] == nil {
				users[policy] = map[calc.EndpointID]struct{}{}
			}
			users[policy][id] = struct{}{}
		}
	}
	for _, p := range d.state.SortedPolicies() {
		list = append(list, Policy{p, len(users[p.ID])})
	}
	return list
}

func policiesOf(ep calc.Endpoint) func(yield func(calc.PolicyID) bool) {
	return func(yield func(calc.PolicyID) bool) {
		for _, name := range ep.Profiles {
			if !yield(calc.PolicyID{Kind: api.KindProfile, Name: name}) {
				return
			}
		}
		for _, directions := range ep.Policies {
			for _, tiers := range directions {
				for _, tier := range tiers {
					for _, id := range tier.Policies {
						if !yield(id) {
							return
						}
					}
				}
			}
		}
	}
}

func (d *Driver) dumpSets() (list []Set) {
	for id, members := range d.state.Sets {
		list = append(list, Set{id, members.Sorted()})
	}
	slices.SortFunc(list, func(a, b Set) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (d *Driver) dumpRules() (list []Rule, err error) {
	hits, err := d.shared.AllRuleHits()
	add := func(id calc.RuleID, rule *calc.Rule, action string) {
		h := hits[id.Hash()]
		list = append(list, Rule{id, rule, action, h.Packets, h.Bytes})
	}
	for _, p := range d.state.SortedPolicies() {
		for dir, rules := range [...][]calc.Rule{p.Ingress, p.Egress} {
			for i := range rules {
				id := calc.RuleID{Policy: p.ID, Tier: p.Tier, Direction: calc.Direction(dir), Index: i}
				add(id, &rules[i], string(rules[i].Action))
			}
		}
	}
	for _, t := range d.state.SortedTiers() {
		action := "Deny"
		if !t.Missing && t.Default == "Pass" {
			action = "Pass"
		}
		for _, id := range rulesOf(d.state, tierEnd(t.Name)) {
			add(id, nil, action)
		}
	}
	for _, id := range rulesOf(d.state, calc.PolicyID{Kind: calc.KindEnd}) {
		add(id, nil, "Deny")
	}
	return list, err
}

// dumpConnections reads the connections. One that passes a bridge port and another interface has two entries, which are shown as one.
func (d *Driver) dumpConnections(dump *Dump, most int) error {
	epoch := d.shared.Epoch()
	at := map[layout.FlowKey]int{} // in dump.Connections
	return d.shared.Connections(func(c bpf.Connection) bool {
		whole := c.Key
		whole.Asker &^= uint8(layout.AskerAtPort)
		if i, there := at[whole]; there {
			dump.Connections[i] = joined(dump.Connections[i], d.connection(c, epoch))
			return true
		}
		if len(dump.Connections) >= most {
			dump.Truncated = true
			return false
		}
		at[whole] = len(dump.Connections)
		dump.Connections = append(dump.Connections, d.connection(c, epoch))
		return true
	})
}

// joined makes one of two records of a connection. Both have counted every packet that passed them.
func joined(a, b Connection) Connection {
	for way := range a.Packets {
		a.Packets[way], a.Bytes[way] = max(a.Packets[way], b.Packets[way]), max(a.Bytes[way], b.Bytes[way])
	}
	if len(b.Refusals) > 0 {
		a.State = b.State
	}
	a.Age, a.Idle = max(a.Age, b.Age), min(a.Idle, b.Idle)
	a.Approvals, a.Refusals = append(a.Approvals, b.Approvals...), append(a.Refusals, b.Refusals...)
	return a
}

func (d *Driver) connection(c bpf.Connection, epoch uint64) Connection {
	out := Connection{
		Protocol: c.Proto, Opener: c.Opener, Replier: c.Replier, State: flowState(c), Age: c.Age, Idle: c.Idle,
		ICMPType: c.ICMPType, ICMPID: c.ICMPID,
	}
	for _, a := range c.Approvals {
		for dir := range a.Packets { // both sides see every packet; one may have joined later
			out.Packets[dir] = max(out.Packets[dir], a.Packets[dir])
			out.Bytes[dir] = max(out.Bytes[dir], a.Bytes[dir])
		}
		if a.Ifindex == 0 {
			continue
		}
		said := Approval{
			Endpoint: d.plan.names[a.Endpoint], Interface: d.plan.links[int(a.Ifindex)].Name, Stage: stageName(a.Stage),
			Rule: d.rules.of[a.Rule], Current: a.Epoch == epoch,
		}
		if a.Revoked {
			out.Refusals = append(out.Refusals, said)
		} else {
			out.Approvals = append(out.Approvals, said)
		}
	}
	return out
}

func flowState(c bpf.Connection) string {
	if c.Revoked() {
		return "revoked"
	}
	switch c.State {
	case layout.FlowTCPOpening:
		return "syn-sent"
	case layout.FlowTCPEstablished:
		return "established"
	case layout.FlowTCPFins:
		return "closing"
	case layout.FlowTCPReset:
		return "reset"
	}
	if c.Answered {
		return "replied"
	}
	return "unreplied"
}

func stageName(number int) string {
	if number == layout.StageBornHere {
		return "from the host"
	}
	if stage, dir, ok := classifier.StageOf(number); ok {
		return stage.String() + " " + dir.String()
	}
	return "unknown"
}

// dumpHopRoutes lists the routes of one kind, also those that are not wanted.
func (d *Driver) dumpHopRoutes(l *hopRoutes) (list []Route) {
	for prefix, entry := range l.table.Wanted() {
		r := Route{Destination: prefix, Kind: l.kind, State: "waiting"}
		var names []string
		for _, hop := range entry.Value.Hops {
			names = append(names, fmt.Sprintf("%v %s", hop.Gateway, d.plan.links[hop.Interface].Name))
		}
		r.Interface = strings.Join(names, ", ")
		switch {
		case entry.Programmed:
			r.State = "programmed"
		case entry.Error != nil:
			r.State, r.Error = "failed", entry.Error.Error()
		}
		list = append(list, r)
	}
	for prefix, why := range l.refused {
		list = append(list, Route{Destination: prefix, Kind: l.kind, State: "not used", Error: why})
	}
	return list
}

func (d *Driver) dumpRoutes() (list []Route) {
	for prefix, entry := range d.routes.Wanted() {
		r := Route{Destination: prefix, Kind: entry.Value.Kind.String(), State: "waiting"}
		r.Interface = d.plan.links[entry.Value.Interface].Name
		switch {
		case entry.Programmed:
			r.State = "programmed"
		case entry.Error != nil:
			r.State, r.Error = "failed", entry.Error.Error()
		}
		list = append(list, r)
	}
	for _, l := range d.byOtherHosts() {
		list = append(list, d.dumpHopRoutes(l)...)
	}
	for prefix, why := range d.plan.waiting {
		list = append(list, Route{prefix, d.state.Routes[prefix].Interface, "workload", "waiting", why})
	}
	slices.SortFunc(list, func(a, b Route) int { return a.Destination.Compare(b.Destination) })
	return list
}
