package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// world is a State being put together.
type world struct{ *calc.State }

func newWorld() world {
	s := &calc.State{Ready: true}
	s.Fold(calc.Delta{})
	s.Config = calc.Config{InterfacePrefixes: []string{"cali"}, FlowTableSize: 4096, DeviceRouteProtocol: 80}
	s.Tiers = map[string]calc.Tier{"default": {Name: "default", Default: api.Deny}}
	s.Policies = map[calc.PolicyID]calc.Policy{allowAll: {
		ID: allowAll, Ingress: []calc.Rule{{Action: api.Allow, V4: true, V6: true}}, Egress: []calc.Rule{{Action: api.Allow, V4: true, V6: true}},
	}}
	s.Endpoints, s.Routes = map[calc.EndpointID]calc.Endpoint{}, map[netip.Prefix]calc.Route{}
	s.Pools = map[netip.Prefix]calc.Pool{}
	return world{s}
}

var allowAll = calc.PolicyID{Kind: calc.KindProfile, Name: "open"}

// workload adds the endpoint of a machine and the routes to it.
func (w world) workload(m *vm) calc.EndpointID {
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: m.iface}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: m.iface, Addresses: m.addresses, Profiles: []string{"open"}}
	for _, a := range m.addresses {
		w.Routes[netip.PrefixFrom(a, a.BitLen())] = calc.Route{Kind: calc.LocalWorkload, Interface: m.iface}
	}
	return id
}

// protect makes an endpoint accept only some TCP port.
func (w world) protect(id calc.EndpointID, port uint16) {
	policy := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.protect-" + id.Name}
	w.Policies[policy] = calc.Policy{ID: policy, Tier: "default", Ingress: []calc.Rule{{
		Action: api.Allow, V4: true, V6: true, Protocol: 6, Destination: calc.Match{Ports: []calc.PortRange{{First: port, Last: port}}},
	}}}
	ep := w.Endpoints[id]
	ep.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default", Policies: []calc.PolicyID{policy}}}
	w.Endpoints[id] = ep
}

// clone is the world as it is now.
func (w world) clone() *calc.State {
	s := &calc.State{}
	s.Fold(calc.Diff(nil, w.State))
	return s
}

// driver is a Driver under test and the state that it was given.
type driver struct {
	*Driver
	h     *host
	given *calc.State
}

func (h *host) start(options Options) *driver {
	h.Helper()
	options.PinDir, options.Log = h.pins, h.log
	d, err := New(options)
	must(h, err)
	return &driver{Driver: d, h: h}
}

// become gives the Driver what is new in a world.
func (d *driver) become(w world) error {
	next := w.clone()
	delta := calc.Diff(d.given, next)
	d.given = next
	return d.Apply(delta)
}

// settle applies nothing until nothing is left to do, following interface events.
func (d *driver) settle(is func() bool) {
	d.h.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		select {
		case <-d.Wake():
		case <-time.After(20 * time.Millisecond):
		}
		if err := d.Apply(calc.Delta{}); err != nil {
			d.h.Log("not yet: ", err)
		}
		if time.Now().After(deadline) {
			d.h.Fatal("never settled")
		}
	}
}

func TestMachinesBehindTheHost(t *testing.T) {
	h := newHost(t)
	client := h.plug("cali1", "10.65.0.1", "fd00:65::1")
	server := h.plug("cali2", "10.65.0.2", "fd00:65::2")
	server.serve(80)
	server.serve(81)
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.start(Options{})
	defer d.Uninstall()
	if err := d.become(w); err != nil {
		t.Fatal(err)
	}
	if client.reachesAtOnce("tcp", server.addresses[0], 80) {
		t.Error("open before the input is in sync")
	}
	d.InSync()
	must(t, d.Apply(calc.Delta{}))
	for _, a := range server.addresses {
		got := reach(yesNo("tcp 80", client.reaches("tcp", a, 80)), yesNo("tcp 81", client.reaches("tcp", a, 81)), yesNo("udp 80", client.reaches("udp", a, 80)))
		if want := "tcp 80 yes\ntcp 81 no\nudp 80 no"; got != want {
			t.Errorf("%v: got\n%s", a, got)
		}
	}
}
