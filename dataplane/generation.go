package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
	"github.com/margay-project/margay/dataplane/table"
)

// generation is one loaded program with its tables, and the classifier that fills them.
type generation struct {
	*bpf.Generation
	d          *Driver
	serial     int
	classifier *classifier.Classifier
	memory     *classifier.Memory
	sizes      classifier.Sizes
	masks      map[calc.EndpointID]classifier.Masks // that endpoints have or are about to get
	interfaces *table.Table[uint32, layout.Iface]
	sources    *table.Table[layout.SourceKey, uint8]
	sourceNets *table.Table[layout.SourceNetKey, uint8]

	pending      bool                       // the classifier has more to do without new input
	proposed     bool                       // the classifier waits to hear which masks were written
	held         map[calc.EndpointID]string // endpoints that keep their former policy, and why
	gone         []calc.EndpointID          // left with the last change
	masksPending []calc.EndpointID          // their masks have changed since planInterfaces read masks
	planned      int                        // serial of the plan that interfaces and sources follow
	reuse        grace
}

// Sizes of the tables that do not grow with policy.
const (
	maxInterfaces = 8192
	maxSources    = 1 << 17
	maxSourceNets = 1 << 15
)

// load makes an empty generation. It judges no packet before it is attached.
func (d *Driver) load(serial int, s classifier.Sizes) (*generation, error) {
	if err := d.step("load program"); err != nil {
		return nil, err
	}
	program, err := bpf.LoadGeneration(d.shared, bpf.Sizes{
		Blocks: uint32(s.Blocks), Vectors: uint32(s.Vectors), Chunks: uint32(s.Chunks), Hosts: uint32(s.Hosts), Nets: uint32(s.Nets),
		Interfaces: maxInterfaces, Sources: maxSources, SourceNets: maxSourceNets,
	})
	if err != nil {
		return nil, err
	}
	g := &generation{Generation: program, d: d, serial: serial, sizes: s, masks: map[calc.EndpointID]classifier.Masks{}}
	g.memory = &classifier.Memory{
		Slots: program.Slots, Vectors: program.Vectors, Chunks: program.Chunks, Wild: program.Wild,
		Services: program.Services, SourcePorts: program.SourcePorts, Blocks: s.Blocks,
	}
	if g.classifier, err = classifier.New(g.memory, s, g); err != nil {
		return nil, errors.Join(err, program.Close())
	}
	g.interfaces = table.New("interface policies", stepped[uint32, layout.Iface]{
		d, "interface policy", bpfTarget[uint32, layout.Iface]{d, program.Interfaces},
	}, func(a, b layout.Iface) bool { return a == b })
	g.sources = table.New("source addresses", stepped[layout.SourceKey, uint8]{
		d, "source address", bpfTarget[layout.SourceKey, uint8]{d, program.Sources},
	}, func(a, b uint8) bool { return a == b })
	g.sourceNets = table.New("source networks", stepped[layout.SourceNetKey, uint8]{
		d, "source network", bpfTarget[layout.SourceNetKey, uint8]{d, program.SourceNets},
	}, func(a, b uint8) bool { return a == b })
	return g, nil
}

// PutHost, DeleteHost, PutNet and DeleteNet are the classifier's way to the tables of addresses, with the Driver's step before
// each write.
func (g *generation) PutHost(a netip.Addr, source, dest uint32) error {
	return g.write("put address", a, func() error { return g.Generation.PutHost(a, source, dest) })
}

func (g *generation) DeleteHost(a netip.Addr) error {
	return g.write("delete address", a, func() error { return g.Generation.DeleteHost(a) })
}

func (g *generation) PutNet(p netip.Prefix, source, dest uint32) error {
	return g.write("put network", p, func() error { return g.Generation.PutNet(p, source, dest) })
}

func (g *generation) DeleteNet(p netip.Prefix) error {
	return g.write("delete network", p, func() error { return g.Generation.DeleteNet(p) })
}

func (g *generation) write(what string, on fmt.Stringer, do func() error) error {
	if err := g.d.step(what + " " + on.String()); err != nil {
		return err
	}
	g.d.epochPending = true
	return do()
}

// update brings a change into the tables of policy, and makes room once if they are full. Afterwards masks has the masks that
// endpoints must get; confirm ends the change.
func (g *generation) update(delta *calc.Delta) error {
	if delta.Empty() && !g.pending {
		return nil
	}
	err := g.apply(delta)
	if isFull(err) {
		return g.makeRoom(err)
	}
	return err
}

// makeRoom frees at once the numbers that no program can hold any more, and applies the change again. That is cheaper than
// another generation. The classifier proposes again the masks that were not written.
func (g *generation) makeRoom(full error) error {
	round := g.classifier.Sweep(slices.Concat(slices.Collect(maps.Keys(g.masks)), g.gone)...)
	g.proposed = false
	if !kernelGrace() {
		return full
	}
	return errors.Join(g.classifier.Reuse(round), g.apply(&calc.Delta{}))
}

// keepsFormer says whether an endpoint still has its former policy because its new one is not complete.
func (g *generation) keepsFormer() bool {
	for id := range g.held {
		if g.masks[id].Closed == "" {
			return true
		}
	}
	return false
}

// apply gives a change to the classifier and notes what follows from it.
func (g *generation) apply(delta *calc.Delta) error {
	commit, err := g.classifier.Apply(delta)
	maps.Copy(g.masks, commit.Endpoints)
	g.masksPending = slices.AppendSeq(g.masksPending, maps.Keys(commit.Endpoints))
	for _, id := range commit.Gone {
		delete(g.masks, id)
		g.masksPending = append(g.masksPending, id)
	}
	g.gone, g.held = commit.Gone, commit.Held
	g.pending = err != nil || len(commit.Held) > 0
	g.proposed = true
	g.d.epochPending = true
	return err
}

// confirm ends a change after the entries of interfaces were written: the classifier learns which of them failed.
func (g *generation) confirm(names map[uint64]calc.EndpointID, now time.Time) {
	if !g.proposed {
		return
	}
	g.proposed = false
	var failed []calc.EndpointID
	held := map[uint32]layout.Iface{}
	for index, entry := range g.interfaces.Held() {
		held[index] = entry
	}
	for index, entry := range g.interfaces.Wanted() {
		if entry.Programmed {
			if g.d.governs(index, entry.Value) {
				delete(held, index)
			}
			continue
		}
		if id, known := names[entry.Value.Endpoint]; known {
			failed = append(failed, id)
		}
	}
	for _, entry := range held { // entries of former policy, perhaps because the program could not be taken off
		if id, known := names[entry.Endpoint]; known {
			failed = append(failed, id)
		}
	}
	g.pending = g.pending || len(failed) > 0
	g.reuse.after(g.classifier.Sweep(failed...), now)
}

// reclaim frees the numbers that no running program can hold any more.
func (g *generation) reclaim(now time.Time) error {
	round, passed := g.reuse.passed(now, g.d.signal)
	if !passed {
		return nil
	}
	err := g.classifier.Reuse(round)
	g.pending = g.pending || err != nil
	return err
}

// close releases the generation. Links that still run it, pinned, keep it alive in the kernel.
func (g *generation) close() error { return g.Generation.Close() }
