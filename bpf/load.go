package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// Sizes are the sizes of the tables of one generation.
type Sizes struct {
	Blocks     uint32 // of layout.BlockSlots slots each, 1 to layout.MaxBlocks
	Vectors    uint32 // vector 0, which is empty, counts
	Chunks     uint32 // chunk 0, which is all zero, counts
	Hosts      uint32
	Nets       uint32
	Interfaces uint32
	Sources    uint32 // addresses of workloads, of all interfaces
	SourceNets uint32 // networks that workloads may send from besides, of all interfaces
}

// Generation is one loaded program with its own tables of policy. It judges no packet before it is attached.
type Generation struct {
	Memory
	Sizes      Sizes
	Hosts      Table[[16]byte, layout.AddressClass]      // see Address and ClassOf
	Nets       Table[layout.NetKey, layout.AddressClass] // see NetKeyOf and ClassOf
	Interfaces Table[uint32, layout.Iface]               // by index of the interface
	Sources    Table[layout.SourceKey, uint8]            // addresses that workloads may send from; the value has no meaning
	SourceNets Table[layout.SourceNetKey, uint8]         // networks that they may send from besides, see SourceNetKeyOf

	shared   *Shared
	set      uint32 // serial of the tables of connections that were current when it was loaded
	traced   bool
	objects  programObjects
	settings []layout.Settings // one, in the kernel's memory: those of Shared, or of a twin its own
	last     []layout.Judged   // one, in the kernel's memory: written by a traced program
}

// LoadGeneration loads the program with empty tables of policy and the shared state, beside all that run. The caller
// closes it before shared.
func LoadGeneration(shared *Shared, sizes Sizes) (*Generation, error) {
	return load(shared, sizes, false)
}

// LoadTraced loads a generation that notes how it judged the last packet, for Run.
func LoadTraced(shared *Shared, sizes Sizes) (*Generation, error) {
	return load(shared, sizes, true)
}

func load(shared *Shared, sizes Sizes, traced bool) (*Generation, error) {
	spec, err := generationSpec(sizes, traced)
	if err != nil {
		return nil, err
	}
	set := uint32(shared.tables.current.serial)
	if err := spec.Variables["set"].Set(set); err != nil {
		return nil, fmt.Errorf("set the number of the tables of connections: %w", err)
	}
	replacements := shared.replacements()
	for name, m := range replacements {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	g := &Generation{Sizes: sizes, shared: shared, set: set, traced: traced}
	opts := &ebpf.CollectionOptions{MapReplacements: replacements}
	if err := spec.LoadAndAssign(&g.objects, opts); err != nil {
		return nil, explain("load the packet program", err)
	}
	if err := g.open(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// generationSpec is the program with the sizes and constants of a generation.
func generationSpec(sizes Sizes, traced bool) (*ebpf.CollectionSpec, error) {
	if sizes.Blocks < 1 || sizes.Blocks > layout.MaxBlocks {
		return nil, fmt.Errorf("load the packet program: %d blocks of rules: it takes 1 to %d", sizes.Blocks, layout.MaxBlocks)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("read the packet program: %w", err)
	}
	for name, n := range map[string]uint32{
		"slots":       sizes.Blocks * uint32(layout.BlockSlots),
		"vectors":     sizes.Blocks * sizes.Vectors,
		"chunks":      sizes.Chunks,
		"wilds":       sizes.Blocks,
		"hosts":       sizes.Hosts,
		"nets":        sizes.Nets,
		"interfaces":  sizes.Interfaces,
		"sources":     sizes.Sources,
		"source_nets": sizes.SourceNets,
	} {
		spec.Maps[name].MaxEntries = max(n, 1)
	}
	if err := spec.Variables["blocks"].Set(sizes.Blocks); err != nil {
		return nil, fmt.Errorf("set the number of blocks: %w", err)
	}
	if traced {
		if err := spec.Variables["testing"].Set(uint32(1)); err != nil {
			return nil, fmt.Errorf("trace the packet program: %w", err)
		}
	}
	return spec, nil
}

// open maps the tables to memory after the program is loaded.
func (g *Generation) open() error {
	maps := &g.objects.programMaps
	g.Hosts = newTable[[16]byte, layout.AddressClass](maps.Hosts, "hosts")
	g.Nets = newTable[layout.NetKey, layout.AddressClass](maps.Nets, "nets")
	g.Interfaces = newTable[uint32, layout.Iface](maps.Interfaces, "interfaces")
	g.Sources = newTable[layout.SourceKey, uint8](maps.Sources, "sources")
	g.SourceNets = newTable[layout.SourceNetKey, uint8](maps.SourceNets, "source networks")
	var err error
	if g.Memory, err = mapMemory(maps); err != nil {
		return err
	}
	settings, mp, err := mapArray[layout.Settings](maps.Config, "settings")
	if err != nil {
		return err
	}
	g.settings = settings
	g.mappings = append(g.mappings, mp)
	last, mp, err := mapArray[layout.Judged](maps.Last, "last")
	if err != nil {
		return err
	}
	g.last = last
	g.mappings = append(g.mappings, mp)
	return nil
}

// Close releases the generation. Pinned links keep its program and tables alive in the kernel.
func (g *Generation) Close() error {
	g.settings, g.last = nil, nil
	return errors.Join(g.Memory.close(), g.objects.Close())
}
