package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
)

// verifyPackets is the number of packets about which a new generation is asked before an interface runs it.
const verifyPackets = 256

// verify reads the tables of a new generation back from the kernel. It asks the lookup in Go and the program in the kernel about
// packets at the edges of rules. Both must answer as calc.Judge does.
func (g *generation) verify(state *calc.State) error {
	if err := g.d.step("verify"); err != nil {
		return err
	}
	image, err := g.readBack()
	if err != nil {
		return err
	}
	kernel, err := g.probe()
	if err != nil {
		return err
	}
	err = g.askAll(state, classifier.Searcher{Memory: g.memory, Addresses: image}, kernel)
	return errors.Join(err, kernel.close())
}

// askAll compares the verdicts of the lookup in Go and of the program in the kernel with those of calc.Judge.
func (g *generation) askAll(state *calc.State, view classifier.Searcher, kernel *probe) error {
	asker := newAsker(state)
	for range verifyPackets {
		id, stage, dir, packet, ok := asker.next()
		masks, judged := g.masks[id]
		number, exists := classifier.KernelStage(stage, dir)
		if !ok || !exists || !judged || masks.Closed != "" {
			continue
		}
		mask := masks.Mask[number]
		want := calc.Judge(state, id, stage, dir, packet)
		if mask == 0 && want.Action == "" {
			continue
		}
		got := view.Verdict(mask, packet)
		rule := uint64(0)
		if want.Action != "" {
			rule = want.Rule.Hash()
		}
		if got.Action != want.Action || got.Rule != rule {
			return fmt.Errorf("verify: the tables say %q by rule %x, the policy of %s says %q by %s (%v, %+v): report this",
				got.Action, got.Rule, id.Name, want.Action, want.Rule, stage, packet)
		}
		if mask == 0 {
			continue
		}
		if err := kernel.ask(id, stage, dir, mask, packet, want); err != nil {
			return err
		}
	}
	return nil
}

// readBack reads the address tables from the kernel.
func (g *generation) readBack() (*classifier.Image, error) {
	image := classifier.NewImage()
	hosts, failed := g.Hosts.All()
	for key, class := range hosts {
		if key != class.Addr {
			return nil, fmt.Errorf("verify: the entry of %v says that it is of %v: report this", bpf.AddrOf(key), bpf.AddrOf(class.Addr))
		}
		if err := image.PutHost(bpf.AddrOf(key), class.Source, class.Dest); err != nil {
			return nil, err
		}
	}
	if err := failed(); err != nil {
		return nil, err
	}
	nets, failed := g.Nets.All()
	for key, class := range nets {
		if err := image.PutNet(bpf.PrefixOf(key), class.Source, class.Dest); err != nil {
			return nil, err
		}
	}
	return image, failed()
}

// asker makes packets for the endpoints of a State, most of them at an edge of a rule: the first or last port of a range, the
// first address of a prefix, and those next to it.
type asker struct {
	state     *calc.State
	random    *rand.Rand
	endpoints []calc.EndpointID
	policies  []calc.PolicyID
}

func newAsker(s *calc.State) *asker {
	a := &asker{state: s, random: rand.New(rand.NewPCG(1, 2))}
	for id, ep := range s.Endpoints {
		if ep.Closed == "" {
			a.endpoints = append(a.endpoints, id)
		}
	}
	a.policies = slices.Collect(maps.Keys(s.Policies))
	return a
}

func (a *asker) next() (id calc.EndpointID, stage calc.Stage, dir calc.Direction, p calc.Packet, ok bool) {
	if len(a.endpoints) == 0 {
		return id, stage, dir, p, false
	}
	id = a.endpoints[a.random.IntN(len(a.endpoints))]
	dir = calc.Direction(a.random.IntN(2))
	stage = calc.Normal
	if other := calc.Stage(a.random.IntN(int(calc.Stages))); len(a.state.Endpoints[id].Policies[other][dir]) > 0 {
		stage = other
	}
	var rule calc.Rule
	if len(a.policies) > 0 {
		policy := a.state.Policies[a.policies[a.random.IntN(len(a.policies))]]
		if all := len(policy.Ingress) + len(policy.Egress); all > 0 {
			if i := a.random.IntN(all); i < len(policy.Ingress) {
				rule = policy.Ingress[i]
			} else {
				rule = policy.Egress[i-len(policy.Ingress)]
			}
		}
	}
	return id, stage, dir, a.packet(rule), true
}

func (a *asker) packet(r calc.Rule) calc.Packet {
	p := calc.Packet{Protocol: r.Protocol}
	if p.Protocol == 0 || a.random.IntN(8) == 0 {
		p.Protocol = [...]uint8{1, 6, 17, 58, 132, 47}[a.random.IntN(6)]
	}
	p.Source, p.Destination = a.address(r.Source), a.address(r.Destination)
	if p.Source.Is4() != p.Destination.Is4() {
		p.Destination = p.Source
	}
	if calc.HasPorts(p.Protocol) {
		p.SourcePort, p.DestinationPort = a.port(r.Source.Ports), a.port(r.Destination.Ports)
	} else if r.ICMP != nil {
		p.ICMPType, p.ICMPCode = uint8(max(r.ICMP.Type, 0)), uint8(max(r.ICMP.Code, 0))
	}
	return p
}

func (a *asker) address(m calc.Match) netip.Addr {
	if len(m.Nets) > 0 {
		return a.edge(m.Nets[a.random.IntN(len(m.Nets))])
	}
	for member := range a.state.Sets[m.Set] {
		return a.edge(member)
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, uint8(a.random.IntN(256))})
}

// edge returns the first address of a prefix, or the one before it.
func (a *asker) edge(p netip.Prefix) netip.Addr {
	first := p.Masked().Addr()
	if before := first.Prev(); before.IsValid() && a.random.IntN(3) == 0 {
		return before
	}
	return first
}

func (a *asker) port(ranges []calc.PortRange) uint16 {
	if len(ranges) == 0 {
		return uint16(a.random.IntN(1 << 16))
	}
	r := ranges[a.random.IntN(len(ranges))]
	return [...]uint16{r.First, r.Last, r.Last + 1}[a.random.IntN(3)]
}
