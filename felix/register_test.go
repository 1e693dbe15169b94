package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// completion is a node before and after felix has completed it.
type completion struct {
	node, want api.Node
	settings   settings
	found      machine
	record     datastore.AgentRecord
}

func asNumber(n api.ASNumber) *api.ASNumber { return &n }

func TestCompletingANodeKeepsItsValues(t *testing.T) {
	t.Parallel()
	found := machineWith("192.0.2.10/24")
	complete(t, map[string]completion{
		"nothing is detected or configured": {},
		"a detected address is stored": {
			found: found,
			want: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "192.0.2.10/24"},
				Addresses: []api.NodeAddress{{Address: "192.0.2.10/24", Type: "CalicoNodeIP"}},
			}},
		},
		"stored values win over detected ones": {
			node: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: asNumber(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
			found: found,
			want: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: asNumber(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
		},
		"a detected address is replaced when its lease changes": {
			node: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "192.0.2.9/24", ASNumber: asNumber(64999)},
				Addresses: []api.NodeAddress{{Address: "192.0.2.9/24", Type: "CalicoNodeIP"}, {Address: "10.1.1.1", Type: "InternalIP"}},
			}},
			found: found, record: datastore.AgentRecord{FoundV4: "192.0.2.9/24"},
			want: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "192.0.2.10/24", ASNumber: asNumber(64999)},
				Addresses: []api.NodeAddress{{Address: "192.0.2.10/24", Type: "CalicoNodeIP"}, {Address: "10.1.1.1", Type: "InternalIP"}},
			}},
		},
		"a detected address stays while no other is detected": {
			node: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.9/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.9/24"}},
			}},
			record: datastore.AgentRecord{FoundV4: "192.0.2.9/24"},
			want: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.9/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.9/24"}},
			}},
		},
		"a detected address stays while an interface has it": {
			node: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.11/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.11/24"}},
			}},
			found: machineWith("192.0.2.10/24", "192.0.2.11/24"), record: datastore.AgentRecord{FoundV4: "192.0.2.11/24"},
			want: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.11/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.11/24"}},
			}},
		},
	})
}

func TestSettingsWinOverTheValuesOfANode(t *testing.T) {
	t.Parallel()
	found := machineWith("192.0.2.10/24")
	complete(t, map[string]completion{
		"a configured method wins over stored values": {
			node: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.10/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.10/24"}},
			}},
			settings: settings{ipv4: found4("cidr=192.0.2.11/32")},
			found:    machineWith("192.0.2.10/24", "192.0.2.11/24"),
			want: api.Node{Spec: api.NodeSpec{
				BGP: &api.NodeBGPSpec{IPv4Address: "192.0.2.11/24"}, Addresses: []api.NodeAddress{{Address: "192.0.2.11/24"}},
			}},
		},
		"the setting none detects no address": {settings: settings{ipv4: given("none")}, found: found},
		"flags win over everything": {
			node: api.Node{Metadata: api.Metadata{Labels: map[string]string{"rack": "r0", "zone": "a"}}, Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: asNumber(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
			settings: settings{ipv4: given("203.0.113.1/24"), ipv6: given("2001:db8::1/64"), asNumber: 64512, labels: map[string]string{"rack": "r1"}},
			found:    found,
			want: api.Node{Metadata: api.Metadata{Labels: map[string]string{"rack": "r1", "zone": "a"}}, Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "203.0.113.1/24", IPv6Address: "2001:db8::1/64", ASNumber: asNumber(64512)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
		},
	})
}

// complete checks each completion, and that a second one changes nothing.
func complete(t *testing.T, cases map[string]completion) {
	t.Helper()
	for name, c := range cases {
		before, got := c.node, c.node
		changed, err := completeNode(&got, &c.settings, c.found, &c.record)
		if must(t, err); changed != !cmp.Equal(before, c.want) {
			t.Errorf("%s: changed is %v", name, changed)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if again, err := completeNode(&got, &c.settings, c.found, &c.record); again || err != nil {
			t.Errorf("%s: completing the node again changes it", name)
		}
	}
}

// machineWith returns a machine with addresses on eth0. Its default route leaves through eth0.
func machineWith(addresses ...string) machine {
	m := machine{
		defaults: func() ([]hop, error) { return []hop{{family4: true, index: 2}}, nil },
		source:   func(netip.Addr) netip.Addr { return netip.Addr{} },
	}
	for _, text := range addresses {
		m.addresses = append(m.addresses, ifaceAddress{prefix: netip.MustParsePrefix(text), index: 2, iface: "eth0"})
	}
	return m
}

// given returns the setting of a fixed address.
func given(address string) addressSetting {
	a := addressSetting{address: address}
	if err := a.parse("--ip", !strings.Contains(address, ":")); err != nil {
		panic(err)
	}
	return a
}

// found4 returns the setting of an IPv4 detection method.
func found4(method string) addressSetting {
	a := addressSetting{method: method}
	if err := a.parse("--ip", true); err != nil {
		panic(err)
	}
	return a
}

// An import may be running while the datastore is locked. An agent must not write its own Node during the import.
func TestANodeIsRegisteredAfterTheDatastoreIsUnlocked(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	store := datastore.New(memory)
	defer store.Close()
	ctx := context.Background()
	must(t, store.EnsureInitialized(ctx))
	lock(t, store, true)
	before := everything(t, memory)
	agents, s := store.WhileUnlocked(), &settings{nodeName: "n1"}
	if err := register(ctx, agents, s, machineWith()); !errors.Is(err, datastore.ErrLocked) {
		t.Errorf("error while the datastore is locked: %v", err)
	}
	if diff := cmp.Diff(before, everything(t, memory)); diff != "" {
		t.Errorf("written while the datastore is locked: %s", diff)
	}
	lock(t, store, false)
	must(t, register(ctx, agents, s, machineWith()))
	lock(t, store, true)
	if err := register(ctx, agents, s, machineWith()); err != nil {
		t.Errorf("error for a complete node: %v", err)
	}
}

func TestRegistrationAddsMissingObjectsAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	store := datastore.New(kvtest.NewMemory())
	defer store.Close()
	ctx := context.Background()
	s := &settings{nodeName: "n1", labels: map[string]string{"rack": "r1"}}
	must(t, register(ctx, store, s, machineWith("192.0.2.10/24")))
	o, err := store.Get(ctx, api.Key{Kind: "FelixConfiguration", Name: "default"})
	must(t, err)
	config := *o.(*api.FelixConfiguration)
	config.Spec.BPFLogLevel = "Info"
	_, err = store.Update(ctx, &config)
	must(t, err)

	must(t, register(ctx, store, s, machineWith("198.51.100.1/24", "192.0.2.10/24")))
	o, err = store.Get(ctx, api.Key{Kind: "FelixConfiguration", Name: "default"})
	must(t, err)
	if o.(*api.FelixConfiguration).Spec.BPFLogLevel != "Info" {
		t.Error("the operator's configuration is overwritten")
	}
	o, err = store.Get(ctx, api.Key{Kind: "Node", Name: "n1"})
	must(t, err)
	if node := o.(*api.Node); node.Spec.BGP.IPv4Address != "192.0.2.10/24" || node.Labels["rack"] != "r1" {
		t.Errorf("%+v", node)
	}
}
