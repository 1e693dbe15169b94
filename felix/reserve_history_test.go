package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// TestIPAMNeverFreesAnAddressInUse creates, moves, renames and deletes endpoints in random order while
// agents die and restart. The test checks after each write: an address that was reserved, and that an endpoint has had
// ever since, is not free. At the end the records of IPAM agree with the endpoints.
func TestIPAMNeverFreesAnAddressInUse(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(15) {
		f := newFleet(t, rand.New(rand.NewPCG(seed, i)))
		for range 60 {
			f.act()
		}
		f.settle()
		if t.Failed() {
			t.Fatalf("history %d of seed %d:\n%s", i, seed, f.story)
		}
	}
}

// fleet is three nodes that share a datastore.
type fleet struct {
	*testing.T
	random  *rand.Rand
	memory  kv.KV
	store   *datastore.Store
	nodes   []*fleetNode
	covered map[netip.Addr]bool // addresses that were reserved and have been in use ever since
	failure error               // error of the last failed turn
	serial  int
	now     time.Time
	story   string
}

// fleetNode is the part of an agent that records reservations.
type fleetNode struct {
	name   string
	graph  *calc.Graph
	state  calc.State
	blocks *blocks
	asking asking
	others unplugged
	keeper *bookkeeper
	dead   bool

	batches  <-chan datastore.Batch
	revision int64
	stop     context.CancelFunc
}

// observed calls after each commit.
type observed struct {
	kv.KV
	after func()
}

func (o observed) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	outcome, err := o.KV.Commit(ctx, conditions, writes)
	o.after()
	return outcome, err
}

func newFleet(t *testing.T, random *rand.Rand) *fleet {
	f := &fleet{T: t, random: random, memory: kvtest.NewMemory(), covered: map[netip.Addr]bool{}, now: time.Unix(1_800_000_000, 0)}
	f.store = datastore.New(observed{f.memory, f.check})
	must(t, f.store.EnsureInitialized(t.Context()))
	f.createPool()
	for i := range 3 {
		n := &fleetNode{name: fmt.Sprint("n", i+1)}
		_, err := f.store.Create(t.Context(), &api.Node{TypeMeta: api.TypeMeta{Kind: "Node", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: n.name}})
		must(t, err)
		f.start(n)
		f.nodes = append(f.nodes, n)
	}
	return f
}

func (f *fleet) createPool() {
	_, err := f.store.Create(f.Context(), &api.IPPool{
		TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "vms"},
		Spec: api.IPPoolSpec{CIDR: "10.65.0.0/26", BlockSize: 30},
	})
	must(f, err)
}

func (f *fleet) start(n *fleetNode) {
	if n.stop != nil {
		n.stop()
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(f.Context())
	n.graph, n.state, n.blocks, n.asking, n.others = calc.New(n.name, calc.Facts{}), calc.State{}, newBlocks(n.name), asking{}, unplugged{}
	n.batches, n.revision = datastore.New(f.memory).Watch(ctx, quiet()), 0
	n.keeper, n.dead = newBookkeeper(quiet(), f.store.WhileUnlocked(), n.name, f.having(n)), false
	n.keeper.now = func() time.Time { return f.now }
}

// having asks the node's own calculation.
func (f *fleet) having(n *fleetNode) having {
	return func(_ context.Context, addrs map[netip.Addr]bool) (map[netip.Addr]bool, error) {
		return n.graph.Having(addrs), nil
	}
}

// say adds a line to the history. A failure prints the history.
func (f *fleet) say(format string, args ...any) { f.story += fmt.Sprintf(format, args...) + "\n" }

// check fails the test if an address in use is free.
func (f *fleet) check() {
	used := map[netip.Addr]bool{}
	for _, ep := range f.endpoints() {
		if addr, has := addressIn(ep); has {
			used[addr] = true
		}
	}
	taken := readBlocks(f.T, f.memory, "")
	for addr := range f.covered {
		if !used[addr] {
			delete(f.covered, addr)
		} else if !isTaken(taken, addr) {
			f.say("%v is free while an endpoint has it", addr)
			f.Errorf("%v is free while an endpoint has it", addr)
			delete(f.covered, addr)
		}
	}
	for addr := range used {
		if isTaken(taken, addr) {
			f.covered[addr] = true
		}
	}
}

func isTaken(b *blocks, addr netip.Addr) bool {
	for cidr, block := range b.list {
		if cidr.Contains(addr) {
			return block.taken.Bit(offset(cidr.Addr(), addr)) == 1
		}
	}
	return false
}

func (f *fleet) endpoints() []*api.WorkloadEndpoint {
	objects, _, err := datastore.New(f.memory).List(context.Background(), "WorkloadEndpoint", "")
	must(f, err)
	var all []*api.WorkloadEndpoint
	for _, o := range objects {
		all = append(all, o.(*api.WorkloadEndpoint))
	}
	return all
}

// addressIn returns the address of an endpoint; false if it waits for one.
func addressIn(ep *api.WorkloadEndpoint) (netip.Addr, bool) {
	if len(ep.Spec.IPNetworks) == 0 {
		return netip.Addr{}, false
	}
	return netip.MustParsePrefix(ep.Spec.IPNetworks[0]).Addr(), true
}

// act does one random action. The agents work between its steps.
func (f *fleet) act() {
	endpoints := f.endpoints()
	pick := func() *api.WorkloadEndpoint { return endpoints[f.random.IntN(len(endpoints))] }
	node := f.nodes[f.random.IntN(len(f.nodes))]
	switch action := f.random.IntN(11); {
	case action < 2 || len(endpoints) == 0:
		f.create(node.name, netip.AddrFrom4([4]byte{10, 65, 0, byte(f.random.IntN(12))}))
	case action < 4:
		f.remove(pick())
	case action < 6:
		f.ask(node.name)
	case action < 9: // the endpoint moves, or is renamed if the node is the same
		old := pick()
		addr, has := addressIn(old)
		switch {
		case !has:
		case f.random.IntN(3) > 0:
			f.create(node.name, addr)
			f.work()
			f.remove(old)
		default:
			f.remove(old)
			f.create(node.name, addr)
		}
	case action < 10:
		if node.dead {
			f.say("%s runs again", node.name)
			f.start(node)
		} else {
			f.say("%s dies", node.name)
			node.dead = true
		}
	default:
		f.say("the pool is made anew")
		must(f, ipam.ReleasePool(f.Context(), f.store.KV(), netip.MustParsePrefix("10.65.0.0/26")))
		_, err := f.store.Delete(f.Context(), api.Key{Kind: "IPPool", Name: "vms"}, "")
		must(f, err)
		f.work()
		f.createPool()
	}
	f.work()
}

// create creates an endpoint with a hand-written address.
func (f *fleet) create(node string, addr netip.Addr) {
	f.serial++
	f.say("%s: vm%d has %v", node, f.serial, addr)
	ep := endpointOf(node, fmt.Sprint("vm", f.serial))
	ep.Spec.IPNetworks = []string{addr.String() + "/32"}
	_, err := f.store.Create(f.Context(), ep)
	must(f, err)
}

// ask creates an endpoint that asks for an address.
func (f *fleet) ask(node string) {
	f.serial++
	f.say("%s: vm%d asks for an address", node, f.serial)
	ep := endpointOf(node, fmt.Sprint("vm", f.serial))
	ep.Annotations = map[string]string{api.AddressAnnotation: `{"pools":["vms"]}`}
	_, err := f.store.Create(f.Context(), ep)
	must(f, err)
}

// endpointOf returns an endpoint without addresses.
func endpointOf(node, workload string) *api.WorkloadEndpoint {
	return &api.WorkloadEndpoint{
		TypeMeta: api.TypeMeta{Kind: "WorkloadEndpoint", APIVersion: api.APIVersion},
		Metadata: api.Metadata{Name: node + "-libvirt-" + workload + "-eth0", Namespace: "shop"},
		Spec: api.WorkloadEndpointSpec{
			Node: node, Orchestrator: "libvirt", Workload: workload, Endpoint: "eth0", InterfaceName: "cali" + workload,
		},
	}
}

func (f *fleet) remove(ep *api.WorkloadEndpoint) {
	f.say("%s: %s is gone", ep.Spec.Node, ep.Spec.Workload)
	_, err := f.store.Delete(f.Context(), api.KeyOf(ep), "")
	must(f, err)
}

// work makes some agents take some turns.
func (f *fleet) work() {
	for range f.random.IntN(6) {
		if n := f.nodes[f.random.IntN(len(f.nodes))]; !n.dead {
			f.turn(n)
		}
	}
}

// turn does the work of an agent's loop with new events, and then the work of the bookkeeper. Events are sometimes late.
func (f *fleet) turn(n *fleetNode) {
	if f.random.IntN(4) > 0 {
		f.read(n)
	}
	n.state.Fold(n.graph.Flush())
	n.keeper.books = n.blocks.books(&n.state, n.asking, n.others, n.graph.Having)
	if err := n.keeper.pass(f.Context()); err != nil {
		f.say("%s: %v", n.name, err)
		f.failure = err
	}
}

// read takes the events of the agent's watch up to now.
func (f *fleet) read(n *fleetNode) {
	page, err := f.memory.Range(f.Context(), kv.Single("/"), 0, 1)
	must(f, err)
	for n.revision < page.Revision {
		batch := <-n.batches
		for _, u := range batch.Updates {
			n.graph.Update(u)
			if u.Key.Kind == "IPAMBlock" {
				n.blocks.update(u)
			}
			if u.Key.Kind == "WorkloadEndpoint" {
				n.asking.update(n.name, u)
				n.others.update(n.name, u)
			}
		}
		n.revision = batch.Revision
	}
}

// settle ends migrations, runs all agents until no work is left, and checks the records of IPAM.
func (f *fleet) settle() {
	migrating := map[netip.Addr]bool{}
	for _, ep := range f.endpoints() {
		if addr, has := addressIn(ep); migrating[addr] {
			f.remove(ep)
		} else if has {
			migrating[addr] = true
		}
	}
	for _, n := range f.nodes {
		if n.dead {
			f.say("%s runs again", n.name)
			f.start(n)
		}
	}
	for range 12 {
		f.failure = nil
		f.now = f.now.Add(2 * askAgain)
		for _, n := range f.nodes {
			f.read(n)
			f.turn(n)
		}
	}
	if f.failure != nil {
		f.Error(f.failure)
	}
	has := map[netip.Addr]bool{}
	for _, ep := range f.endpoints() {
		addr, got := addressIn(ep)
		if !got || has[addr] {
			f.Errorf("%s has no address, or one that another endpoint has: %v", ep.Name, ep.Spec.IPNetworks)
		}
		has[addr] = true
	}
	check, err := ipam.RunCheck(context.Background(), f.memory, time.Now())
	must(f, err)
	if leaks := check.Leaks(); len(leaks) > 0 || len(check.NotAllocated) > 0 || len(check.LeakedHandles) > 0 || len(check.MissingHandles) > 0 {
		f.Errorf("leaked %v, not allocated %v, handles %v and %v", leaks, check.NotAllocated, check.LeakedHandles, check.MissingHandles)
	}
	if diff := cmp.Diff(ipam.Damage{}, check.Damage); diff != "" {
		f.Error("damaged: ", diff)
	}
	for _, b := range check.Blocks {
		if b.Owner == "" {
			f.Errorf("block %v has no owner", b.CIDR)
		}
	}
	for _, n := range f.nodes {
		n.stop()
	}
}
