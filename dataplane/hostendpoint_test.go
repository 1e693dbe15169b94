package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// uplink connects eth0 of the host to an outside machine. The default route leaves through eth0.
func (h *host) uplink() *vm {
	h.Helper()
	outside := h.plug("eth0", "192.0.2.1")
	h.Up("eth0", "192.0.2.2/24")
	h.DefaultRoute("eth0", "192.0.2.1")
	outside.Up("eth0", "192.0.2.1/24")
	return outside
}

var hostAddress = netip.MustParseAddr("192.0.2.2")

// protectHost adds a host endpoint that accepts one TCP port, and 22 as failsafe.
func (w world) protectHost(name, iface string, port uint16) calc.EndpointID {
	only := func(p uint16) []calc.Rule {
		return []calc.Rule{{
			Action: api.Allow, V4: true, V6: true, Protocol: 6, Destination: calc.Match{Ports: []calc.PortRange{{First: p, Last: p}}},
		}}
	}
	failsafe := calc.PolicyID{Kind: calc.KindFailsafe, Name: "ports"}
	policy := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.host"}
	w.Policies[failsafe] = calc.Policy{ID: failsafe, Ingress: only(22)}
	w.Policies[policy] = calc.Policy{ID: policy, Tier: "default", Ingress: only(port)}
	id := calc.EndpointID{Kind: "HostEndpoint", Name: name}
	ep := calc.Endpoint{ID: id, Interface: iface, Profiles: []string{"open"}}
	front := calc.TierPolicies{Policies: []calc.PolicyID{failsafe}}
	ep.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{front, {Tier: "default", Policies: []calc.PolicyID{policy}}}
	ep.Policies[calc.Normal][calc.Egress] = []calc.TierPolicies{front}
	w.Endpoints[id] = ep
	return id
}

func TestAHostEndpointProtectsTheHostAndKeepsFailsafes(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	for _, port := range []int{22, 80, 81} {
		h.Echo(port)
	}
	w := newWorld()
	id := w.protectHost("eth0", "eth0", 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !outside.Reaches("tcp", hostAddress, 80) || !outside.Reaches("tcp", hostAddress, 22) {
		t.Error("an allowed port does not answer")
	}
	if outside.ReachesAtOnce("tcp", hostAddress, 81) {
		t.Error("a denied port answers")
	}
	ep := w.Endpoints[id] // invalid from now on
	ep.Closed, ep.Profiles = "cannot be read", nil
	ep.Policies[calc.Normal][calc.Ingress] = ep.Policies[calc.Normal][calc.Ingress][:1]
	w.Endpoints[id] = ep
	must(t, d.become(w))
	if outside.ReachesAtOnce("tcp", hostAddress, 80) || !outside.Reaches("tcp", hostAddress, 22) {
		t.Error("a closed host endpoint opens the host, or blocks its failsafes")
	}
	delete(w.Endpoints, id)
	must(t, d.become(w))
	if !outside.Reaches("tcp", hostAddress, 81) {
		t.Error("the host is still under policy without a host endpoint")
	}
}

func TestAWorkloadEndpointIsRefusedOnAnUplink(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	w := newWorld()
	w.Config.InterfacePrefixes = []string{"cali", "eth"}
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "evil"}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Profiles: []string{"open"}}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !outside.Reaches("tcp", hostAddress, 22) {
		t.Error("the host is locked out")
	}
	for _, i := range d.Status().Interfaces {
		if i.Endpoint == id && (i.State != Waiting || !strings.Contains(i.Reason, "default route")) {
			t.Errorf("%+v", i)
		}
	}
}

func TestOutgoingNATUsesTheHostAddress(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	outside.Echo(80)
	client := h.plug("cali1", "10.65.0.1")
	w := newWorld()
	w.workload(client)
	pool := netip.MustParsePrefix("10.65.0.0/16")
	w.Pools[pool] = calc.Pool{CIDR: pool, NATOutgoing: true}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("tcp", netip.MustParseAddr("192.0.2.1"), 80) { // which has no route to the pool
		t.Error("no answer from outside")
	}
	dump, err := d.Dump(100, TableConnections)
	if err != nil || len(dump.Connections) == 0 || dump.Connections[0].Approvals[0].Endpoint.Name != "cali1" {
		t.Errorf("%v %+v", err, dump.Connections)
	}
}

func TestFailedWorkIsRetriedWithoutNewInput(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	broken := true
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.start(Options{step: func(what string) error {
		if broken && strings.HasPrefix(what, "attach") {
			return errors.New("injected")
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()
	if d.become(w) == nil {
		t.Error("the failure is not reported")
	}
	broken = false
	deadline := time.After(lab.Patience)
	for d.stateOfInterface("cali1") != Enforced || d.stateOfInterface("cali2") != Enforced {
		select {
		case <-d.Wake():
			_ = d.Apply(calc.Delta{})
		case <-deadline:
			t.Fatalf("the work was never retried: %+v", d.Status().Interfaces)
		}
	}
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("the server does not answer")
	}
}

func TestVerifyFindsWrongRules(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	g := d.generations.newest()
	must(t, g.verify(d.state))
	for i := range g.Slots {
		if g.Slots[i].Action == layout.ActionDeny {
			g.Slots[i].Action = layout.ActionAllow
		}
	}
	if err := g.verify(d.state); err == nil {
		t.Error("verify accepts rules that all allow")
	}
}

func TestRuleHitsAndRoutesAreShown(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	hole, away := netip.MustParsePrefix("10.65.0.0/26"), netip.MustParsePrefix("10.65.0.9/32")
	w.Routes[hole] = calc.Route{Kind: calc.BlockHole}
	w.Routes[away] = calc.Route{Kind: calc.LocalWorkload, Interface: "cali9"}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Error("policy is not in force")
	}
	dump, err := d.Dump(100)
	must(t, err)
	hits := map[string]bool{}
	for _, r := range dump.Rules {
		hits[r.ID.String()+" "+r.Action] = hits[r.ID.String()+" "+r.Action] || r.Packets > 0
	}
	if !hits["default/default.protect-cali2/0 Allow"] || !hits["end of tier default Deny"] {
		t.Errorf("hits %v", hits)
	}
	states := map[string]string{}
	for _, r := range dump.Routes {
		states[r.Destination.String()] = r.Kind + " " + r.Interface + " " + r.State
	}
	for prefix, want := range map[string]string{
		"10.65.0.0/26": "blackhole  programmed", "10.65.0.9/32": "workload cali9 waiting", "10.65.0.2/32": "workload cali2 programmed",
	} {
		if states[prefix] != want {
			t.Errorf("%s: %s, want %s", prefix, states[prefix], want)
		}
	}
	for _, table := range d.Status().Tables {
		if table.Error != nil || table.Wanted != table.Programmed {
			t.Errorf("%+v", table)
		}
	}
}

func TestDropsAreTold(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.Config.LogLevel = "info"
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	ctx, cancel := context.WithCancel(context.Background())
	told, ended := make(chan Event, 100), make(chan error)
	go func() {
		ended <- d.Follow(ctx, func(e Event) {
			select {
			case told <- e:
			default:
			}
		})
	}()
	client.ReachesAtOnce("tcp", server.Addresses[0], 81)
	deadline := time.After(lab.Patience)
	for found := false; !found; {
		select {
		case e := <-told:
			found = e.Kind == "drop" && e.Destination.Port() == 81 && e.Interface == "cali2" && e.Rule.String() == "end of tier default"
		case <-deadline:
			t.Fatal("the drop was not reported")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Until an agent has read the policy, its status shows for each interface that a program of an earlier agent judges it.
func TestStatusShowsAnEarlierProgramOnAHostInterface(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorld()
	w.protectHost("uplink", "eth0", 80)
	must(t, h.run(w, Options{}).Close())
	d := h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	must(t, d.Apply(calc.Delta{}))
	if state := d.stateOfInterface("eth0"); state != Enforced {
		t.Errorf("before the input is known the status of eth0 is %q, although a program judges it", state)
	}
	d.InSync()
	must(t, d.become(newWorld()))
	if state := d.stateOfInterface("eth0"); state != NoPolicy {
		t.Errorf("without its endpoint eth0 is %q", state)
	}
}
