package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/table"
)

// Status says whether the kernel is as wanted, and if not, why.
type Status struct {
	InSync           bool
	Generation       uint64 // 0: none yet; the programs of a former process may be enforcing
	Generations      int    // more than 1: some interface could not be swapped yet
	Epoch            uint64
	Rules            int // slots of the newest generation that hold a rule
	RulesLimit       int
	Connections      int // proven ones, at the last sweep, at most ten seconds ago
	ConnectionsLimit int // of the proven
	Unproven         int // connections that have yet to be proven
	UnprovenLimit    int
	Drops            map[string]uint64 // packets by reason
	Repairs          map[string]uint64 // repaired entries by kind, since the start
	Interfaces       []Interface
	Tables           []table.Status
	Problems         []string // each says what to do
	RouteProblems    []string // those of Problems that are about routes by other hosts
}

// InterfaceState says whether policy is in force on an interface.
type InterfaceState string

// The states of an interface.
const (
	Enforced InterfaceState = "enforced"
	Waiting  InterfaceState = "waiting" // for the interface to appear, or for the input
	Closed   InterfaceState = "closed"  // everything is dropped, but for a host's failsafes
	Failed   InterfaceState = "failed"
	NoPolicy InterfaceState = "none"
)

// Interface is a network interface and whether policy is in force on it. An endpoint that waits for its interface has
// one with index 0.
type Interface struct {
	Name     string
	Index    int
	Endpoint calc.EndpointID // zero: no endpoint
	State    InterfaceState
	Reason   string        // why it is not enforced
	Idle     time.Duration // how long the endpoint has had no interface; 0 for one that has
	MAC      string
	Attached string // "bridged on br0"; empty: the host routes to it
	DHCP     string // the last word with the workload about its address, and when; empty: it has not asked
}

// Status returns the state of the moment, read on the loop that also applies changes.
func (d *Driver) Status() Status {
	s := Status{InSync: d.inSync, Generations: len(d.generations.all), Interfaces: d.interfaces(), Drops: map[string]uint64{},
		Repairs: maps.Clone(d.audits.repairs)}
	s.RulesLimit = classifier.Limits().Blocks * layout.BlockSlots
	if g := d.generations.newest(); g != nil {
		s.Generation = uint64(g.serial)
		s.Rules = g.slots()
	}
	s.Tables = []table.Status{d.links.Status(), d.routes.Status(), d.learned.table.Status(), d.toNodes.table.Status(), d.toPeers.table.Status(), d.peering.table.Status(), d.settings.Status(), d.locals.Status(), d.counters.Status()}
	if g := d.generations.newest(); g != nil {
		s.Tables = append(s.Tables, g.interfaces.Status(), g.sources.Status(), g.sourceNets.Status())
	}
	if d.shared != nil {
		d.countShared(&s)
	}
	s.Problems, s.RouteProblems = d.problems(), d.routeProblems()
	return s
}

func (d *Driver) countShared(s *Status) {
	s.Epoch = d.shared.Epoch()
	sizes := d.shared.FlowSizes()
	s.ConnectionsLimit, s.UnprovenLimit = int(sizes.Flows), 2*int(sizes.NewFlows)
	if counts, known := d.flows.counts(); known {
		s.Connections, s.Unproven = int(counts.Proven), int(counts.Unproven)
	}
	counts, err := d.shared.ReasonCounts()
	if err != nil {
		return
	}
	for reason, hits := range counts {
		if r := bpf.Reason(reason); r.Drops() && hits.Packets > 0 {
			s.Drops[r.String()] = hits.Packets
		}
	}
}

// slots counts the rules in the classifier's order.
func (g *generation) slots() (n int) {
	for _, s := range g.memory.Slots {
		if s.Action != 0 {
			n++
		}
	}
	return n
}

// problems names the troubles that concern more than one entry. The status of each table names those of its entries.
func (d *Driver) problems() (texts []string) {
	for _, err := range []error{d.claim.warning, d.generations.err, d.gateErr} {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if g := d.generations.newest(); g != nil {
		for id, why := range g.held {
			texts = append(texts, fmt.Sprintf("%s(%s) keeps its former policy: %s", id.Kind, id.Name, why))
		}
	}
	var late error
	if d.lastErr != nil && len(texts) == 0 {
		late = d.lastErr
	}
	if late != nil {
		texts = append(texts, strings.Split(errors.Join(late).Error(), "\n")...)
	}
	if d.portsErr != nil && len(d.bridges()) > 0 {
		texts = append(texts, fmt.Sprintf("a bridge port of a workload that is made anew while felix does not run is open until felix starts: %v: "+
			"load the module nf_tables_bridge, or build the kernel with NF_TABLES_BRIDGE, and restart felix", d.portsErr))
	}
	texts = append(texts, d.sourceNetProblems()...)
	texts = append(texts, d.firewalls.problems(d.Mark)...)
	texts = append(texts, d.hooks.problems()...)
	texts = append(texts, d.routeProblems()...)
	if d.flows.waits != "" {
		texts = append(texts, d.flows.waits)
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// interfaces returns the state of every interface with a role, and of every endpoint without an interface.
func (d *Driver) interfaces() []Interface {
	var list []Interface
	for index, a := range d.plan.assigned {
		i := Interface{Name: a.Link.Name, Index: index, Endpoint: a.Endpoint, MAC: a.Link.MAC, Attached: a.Attachment(), DHCP: d.lastWord(index)}
		i.State, i.Reason = d.stateOf(index, a)
		list = append(list, i)
	}
	for id, why := range d.plan.idle {
		list = append(list, Interface{Name: d.state.Endpoints[id].Interface, Endpoint: id, State: Waiting, Reason: why, Idle: d.clock().Sub(d.idleSince[id])})
	}
	slices.SortFunc(list, func(a, b Interface) int {
		return strings.Compare(a.Name+"\x00"+a.Endpoint.Name, b.Name+"\x00"+b.Endpoint.Name)
	})
	return list
}

func (d *Driver) stateOf(index int, a interfaces.Assignment) (InterfaceState, string) {
	newest := d.generations.newest()
	switch {
	case newest == nil && a.Refused == "" && (d.enforced[index] || d.recalled[uint32(index)]):
		return Enforced, "the program of the former felix judges until this one is ready"
	case a.Role == interfaces.None:
		return NoPolicy, a.Refused
	case newest == nil:
		return Waiting, "policy is not loaded yet"
	}
	link, _ := d.links.Wants(index)
	entry, _ := newest.interfaces.Wants(uint32(index))
	closed := a.Closed
	if m, judged := newest.masks[a.Endpoint]; judged && m.Closed != "" {
		closed = m.Closed
	}
	switch {
	case entry.Error != nil:
		return Failed, entry.Error.Error()
	case link.Error != nil:
		return Failed, link.Error.Error()
	case !link.Programmed:
		return Waiting, "policy is not loaded yet"
	case d.hooks.wrong(index) != "":
		return Failed, d.hooks.wrong(index)
	case closed != "":
		return Closed, closed
	case newest.held[a.Endpoint] != "":
		return Enforced, "the former policy is in force, because the new one is not complete: " + newest.held[a.Endpoint]
	}
	return Enforced, ""
}

// State returns the wanted State. It is valid until the next Apply, and the caller must not change it.
func (d *Driver) State() *calc.State { return d.state }

// closedBy says why the classifier closed an endpoint that calc did not close; empty: it did not.
func (d *Driver) closedBy(id calc.EndpointID) string {
	if g := d.generations.newest(); g != nil {
		return g.masks[id].Closed
	}
	return ""
}

// sortedIDs returns the endpoints of the State, sorted by name.
func (d *Driver) sortedIDs() []calc.EndpointID {
	return slices.SortedFunc(maps.Keys(d.state.Endpoints), func(a, b calc.EndpointID) int {
		return strings.Compare(a.Name+"\x00"+a.Namespace+a.Kind, b.Name+"\x00"+b.Namespace+b.Kind)
	})
}
