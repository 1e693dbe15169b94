package dataplane

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/internal/lab"
)

// world is a State under construction.
type world struct{ *calc.State }

func newWorld() world {
	s := &calc.State{Ready: true}
	s.Fold(calc.Delta{})
	s.Config = calc.Config{InterfacePrefixes: []string{"cali"}, FlowTableSize: 4096, DeviceRouteProtocol: 86}
	s.Tiers = map[string]calc.Tier{"default": {Name: "default", Default: api.Deny}}
	s.Policies = map[calc.PolicyID]calc.Policy{allowAll: {
		ID: allowAll, Ingress: []calc.Rule{{Action: api.Allow, V4: true, V6: true}}, Egress: []calc.Rule{{Action: api.Allow, V4: true, V6: true}},
	}}
	s.Endpoints, s.Routes = map[calc.EndpointID]calc.Endpoint{}, map[netip.Prefix]calc.Route{}
	s.Pools = map[netip.Prefix]calc.Pool{}
	return world{s}
}

var allowAll = calc.PolicyID{Kind: api.KindProfile, Name: "open"}

// workload adds the endpoint of a VM and the routes to it.
func (w world) workload(m *vm) calc.EndpointID {
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: m.Device}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: m.Device, Addresses: m.Addresses, Profiles: []string{"open"}}
	for _, a := range m.Addresses {
		w.Routes[netip.PrefixFrom(a, a.BitLen())] = calc.Route{Kind: calc.LocalWorkload, Interface: m.Device}
	}
	return id
}

// protect makes an endpoint accept only one TCP port.
func (w world) protect(id calc.EndpointID, port uint16) {
	policy := calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.protect-" + id.Name}
	w.Policies[policy] = calc.Policy{ID: policy, Tier: "default", Ingress: []calc.Rule{{
		Action: api.Allow, V4: true, V6: true, Protocol: 6, Destination: calc.Match{Ports: []calc.PortRange{{First: port, Last: port}}},
	}}}
	ep := w.Endpoints[id]
	ep.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default", Policies: []calc.PolicyID{policy}}}
	w.Endpoints[id] = ep
}

// clone returns a copy of the world.
func (w world) clone() *calc.State {
	s := &calc.State{}
	s.Fold(calc.Diff(nil, w.State))
	return s
}

// driver is a Driver under test and the state that it has received.
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

// become gives the Driver the difference to a new world.
func (d *driver) become(w world) error {
	next := w.clone()
	delta := calc.Diff(d.given, next)
	d.given = next
	return d.Apply(delta)
}

// settle applies an empty delta at each interface event, and every 20 ms, until the condition holds.
func (d *driver) settle(is func() bool) {
	d.h.Helper()
	for deadline := time.Now().Add(lab.Patience); !is(); {
		select {
		case <-d.Wake():
		case <-time.After(20 * time.Millisecond):
		}
		if err := d.Apply(calc.Delta{}); err != nil {
			d.h.Log("last error: ", err)
		}
		if time.Now().After(deadline) {
			d.h.Fatal("the condition never held")
		}
	}
}

// pair returns two VMs. The server answers on ports 80 and 81.
func (h *host) pair() (client, server *vm) {
	client = h.plug("cali1", "10.65.0.1", "fd00:65::1")
	server = h.plug("cali2", "10.65.0.2", "fd00:65::2")
	server.Echo(80)
	server.Echo(81)
	return client, server
}

// run starts a Driver with a world, in sync.
func (h *host) run(w world, options Options) *driver {
	h.Helper()
	d := h.start(options)
	d.InSync()
	must(h, d.become(w))
	return d
}

func TestTheDriverEnforcesPolicyAndUninstalls(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.start(Options{})
	must(t, d.become(w))
	if client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Error("open before the input is in sync")
	}
	d.InSync()
	must(t, d.Apply(calc.Delta{}))
	for _, a := range server.Addresses {
		if !client.Reaches("tcp", a, 80) {
			t.Errorf("%v does not answer on an allowed port", a)
		}
		if client.ReachesAtOnce("tcp", a, 81) || client.ReachesAtOnce("udp", a, 80) {
			t.Errorf("%v answers on a denied port", a)
		}
	}
	must(t, d.Uninstall())
	h.leavesNothing()
}

// leavesNothing checks that nothing of the Driver is left on the host. The tests in former_test.go check /proc/sys.
func (h *host) leavesNothing() {
	h.Helper()
	pins, err := os.ReadDir(h.pins)
	must(h, err)
	for _, p := range pins {
		if p.Name() != "maps.debug" && p.Name() != "progs.debug" { // the file system's own
			h.Errorf("%s is still pinned", p.Name())
		}
	}
	if there, err := gate.Exists(); there || err != nil {
		h.Errorf("the gate is still there: %v", err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: 86}, netlink.RT_FILTER_PROTOCOL)
		must(h, err)
		for _, r := range all {
			h.Errorf("route %v is still there", r)
		}
	}
	links, err := netlink.LinkList()
	must(h, err)
	for _, l := range links {
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			result, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
			must(h, err)
			if len(result.Programs) > 0 {
				h.Errorf("%s still has a program", l.Attrs().Name)
			}
		}
	}
}

func TestAPolicyChangeEndsAnOpenConnection(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	d := h.run(w, Options{})
	defer d.Uninstall()
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Fatal("no answer under the profile")
	}
	open, err := client.Dial("tcp", server.Addresses[0], 80)
	must(t, err)
	defer open.Close()
	w.protect(id, 81)
	must(t, d.become(w))
	if lab.AnsweredAtOnce(open) {
		t.Error("an open connection still works although policy no longer allows it")
	}
	if !client.Reaches("tcp", server.Addresses[0], 81) {
		t.Error("the new policy does not allow port 81")
	}
}

func TestPolicyReturnsWithAReplacedInterface(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.run(w, Options{})
	defer d.Uninstall()
	for range 2 {
		server.Unplug()
		d.settle(func() bool { return d.stateOfInterface("cali2") == Waiting })
		server.Replug()
		// The route may come a moment after the policy.
		d.settle(func() bool {
			return d.stateOfInterface("cali2") == Enforced && client.ReachesAtOnce("tcp", server.Addresses[0], 80)
		})
		if client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
			t.Error("the policy is not in force after the VM has come back")
		}
	}
}

func (d *driver) stateOfInterface(name string) InterfaceState {
	for _, i := range d.Status().Interfaces {
		if i.Name == name {
			return i.State
		}
	}
	return ""
}

func TestAVMWithoutItsEndpointStaysClosed(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	d := h.run(w, Options{})
	defer d.Uninstall()
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	delete(w.Endpoints, id)
	must(t, d.become(w))
	if client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Error("a VM without an endpoint is open")
	}
	if state := d.stateOfInterface("cali2"); state != Closed {
		t.Errorf("the interface of the VM is %s", state)
	}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: "cali2", Addresses: server.Addresses, Profiles: []string{"open"}}
	must(t, d.become(w))
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("no answer after the endpoint came back")
	}
}

func TestARestartLosesNoPacketAndNoConnection(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("udp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	tcp, err := client.Dial("tcp", server.Addresses[0], 80)
	must(t, err)
	defer tcp.Close()
	s := client.Stream(server.Addresses[0], 80, aTick)
	for range 3 {
		must(t, d.Close()) // a kill closes the same handles
		d = h.start(Options{})
		must(t, d.Apply(calc.Delta{})) // nothing is known yet
		half := newWorld()
		half.workload(client)
		must(t, d.become(half)) // half of the input: the other VM is not known yet
		answers := s.Answers()
		h.until("traffic in this state", func() bool { return s.Answers() > answers+10 })
		must(t, d.become(w))
		d.InSync()
		must(t, d.Apply(calc.Delta{}))
		if !lab.Answered(tcp) {
			t.Error("a connection was cut")
		}
	}
	if sent := s.End(); lab.Lost(sent) != 0 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
	w.protect(id, 81)
	must(t, d.become(w))
	if client.ReachesAtOnce("tcp", server.Addresses[0], 80) {
		t.Error("the new process does not enforce the new policy")
	}
}

// Firewall scripts flush tables that they do not know. The next process must neither cut the VMs off nor open them.
func TestARestartWithoutTheGateKeepsPolicyInForce(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	w.protect(id, 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	to := server.Addresses[0]
	if !client.Reaches("tcp", to, 80) {
		t.Fatal("the server does not answer")
	}
	must(t, d.Close())
	must(t, gate.Remove())
	d = h.start(Options{})
	config := newWorld()
	must(t, d.become(config)) // names of workload interfaces are known, but the input is not complete
	if !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
		t.Error("before the input is complete the earlier policy is not in force")
	}
	for i := range w.Endpoints {
		delete(w.Endpoints, i)
	}
	must(t, d.become(w)) // both endpoints were deleted meanwhile
	d.InSync()
	must(t, d.Apply(calc.Delta{}))
	if client.ReachesAtOnce("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
		t.Error("a VM without an endpoint is open")
	}
}

func TestANewGenerationLosesNoPacketUnderTraffic(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("udp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	s := client.Stream(server.Addresses[0], 80, aTick)
	for _, size := range []int{8192, 6000} {
		before := d.Status().Generation
		w.Config.FlowTableSize = size
		must(t, d.become(w))
		d.settle(d.hasTableOf(size))
		if got := d.Status(); got.Generation == before || got.Generations != 1 {
			t.Errorf("after the size changed to %d: %+v", size, got)
		}
	}
	if sent := s.End(); lab.Lost(sent) != 0 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
}
