package main

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

func TestANodeIsCompletedButNotOverwritten(t *testing.T) {
	t.Parallel()
	as := func(n api.ASNumber) *api.ASNumber { return &n }
	found := nodeAddresses{v4: netip.MustParsePrefix("192.0.2.10/24")}
	for name, c := range map[string]struct {
		node, want api.Node
		settings   settings
		found      nodeAddresses
	}{
		"nothing is known": {},
		"what was found": {
			found: found,
			want: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "192.0.2.10/24"},
				Addresses: []api.NodeAddress{{Address: "192.0.2.10/24", Type: "CalicoNodeIP"}},
			}},
		},
		"what is stored wins over what was found": {
			node: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: as(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
			found: found,
			want: api.Node{Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: as(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
		},
		"flags win over everything": {
			node: api.Node{Metadata: api.Metadata{Labels: map[string]string{"rack": "r0", "zone": "a"}}, Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "198.51.100.7/32", ASNumber: as(64999)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
			settings: settings{ipv4: "203.0.113.1/24", ipv6: "2001:db8::1/64", asNumber: 64512, labels: map[string]string{"rack": "r1"}},
			found:    found,
			want: api.Node{Metadata: api.Metadata{Labels: map[string]string{"rack": "r1", "zone": "a"}}, Spec: api.NodeSpec{
				BGP:       &api.NodeBGPSpec{IPv4Address: "203.0.113.1/24", IPv6Address: "2001:db8::1/64", ASNumber: as(64512)},
				Addresses: []api.NodeAddress{{Address: "198.51.100.7"}},
			}},
		},
	} {
		before, got := c.node, c.node
		if changed := completeNode(&got, &c.settings, c.found); changed != !cmp.Equal(before, c.want) {
			t.Errorf("%s: changed is %v", name, changed)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if completeNode(&got, &c.settings, c.found) {
			t.Errorf("%s: a second time changes something", name)
		}
	}
}

// A locked datastore may be one that is just being imported, into which an agent must not write its own Node.
func TestANodeIsRegisteredOnceTheDatastoreIsUnlocked(t *testing.T) {
	t.Parallel()
	memory := datastore.NewMemory()
	store := datastore.New(memory)
	defer store.Close()
	ctx := context.Background()
	must(t, store.EnsureInitialized(ctx))
	lock(t, store, true)
	before := everything(t, memory)
	agents, s := store.WhileUnlocked(), &settings{nodeName: "n1"}
	if err := register(ctx, agents, s, nodeAddresses{}); !errors.Is(err, datastore.ErrLocked) {
		t.Errorf("while it is locked: %v", err)
	}
	if diff := cmp.Diff(before, everything(t, memory)); diff != "" {
		t.Errorf("written while it is locked: %s", diff)
	}
	lock(t, store, false)
	must(t, register(ctx, agents, s, nodeAddresses{}))
	lock(t, store, true)
	if err := register(ctx, agents, s, nodeAddresses{}); err != nil {
		t.Errorf("of a node that has all it needs: %v", err)
	}
}

func TestRegistrationAddsWhatIsMissingAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	store := datastore.New(datastore.NewMemory())
	defer store.Close()
	ctx := context.Background()
	s := &settings{nodeName: "n1", labels: map[string]string{"rack": "r1"}}
	must(t, register(ctx, store, s, nodeAddresses{v4: netip.MustParsePrefix("192.0.2.10/24")}))
	o, err := store.Get(ctx, api.Key{Kind: "FelixConfiguration", Name: "default"})
	must(t, err)
	config := *o.(*api.FelixConfiguration)
	config.Spec.BPFLogLevel = "Info"
	_, err = store.Update(ctx, &config)
	must(t, err)

	must(t, register(ctx, store, s, nodeAddresses{v4: netip.MustParsePrefix("198.51.100.1/24")}))
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
