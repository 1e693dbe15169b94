package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// Sizes of the tables of one generation.
type Sizes struct {
	Blocks     uint32 // of 4,096 slots each, at most MaxBlocks
	Vectors    uint32 // with vector 0, which is empty
	Chunks     uint32 // with chunk 0, which is all zero
	Hosts      uint32
	Nets       uint32
	Interfaces uint32
	Sources    uint32
}

// Generation is one loaded program with its own policy tables. It enforces nothing before it is attached.
type Generation struct {
	Memory
	Sizes      Sizes
	Hosts      Table[[16]byte, layout.AddressClass]      // see Address and ClassOf
	Nets       Table[layout.NetKey, layout.AddressClass] // see NetKeyOf and ClassOf
	Interfaces Table[uint32, layout.Iface]
	Sources    Table[layout.SourceKey, uint8]

	shared   *Shared
	set      uint32 // number of the tables of connections that the program was loaded with
	traced   bool
	objects  programObjects
	settings []layout.Settings // in the kernel's memory
	last     []layout.Judged
}

// LoadGeneration loads the program beside whatever runs, with empty policy tables of the given sizes and the shared
// state. The caller closes it.
func LoadGeneration(shared *Shared, sizes Sizes) (*Generation, error) {
	return load(shared, sizes, false)
}

// LoadTraced loads a generation that remembers how it judged each packet, for Run.
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

func generationSpec(sizes Sizes, traced bool) (*ebpf.CollectionSpec, error) {
	if sizes.Blocks < 1 || sizes.Blocks > layout.MaxBlocks {
		return nil, fmt.Errorf("load the packet program: %d blocks of rules: it takes 1 to %d", sizes.Blocks, layout.MaxBlocks)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("read the packet program: %w", err)
	}
	for name, n := range map[string]uint32{
		"slots":      sizes.Blocks * uint32(layout.BlockSlots),
		"vectors":    sizes.Blocks * sizes.Vectors,
		"chunks":     sizes.Chunks,
		"wilds":      sizes.Blocks,
		"hosts":      sizes.Hosts,
		"nets":       sizes.Nets,
		"interfaces": sizes.Interfaces,
		"sources":    sizes.Sources,
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

func (g *Generation) open() error {
	maps := &g.objects.programMaps
	g.Hosts = newTable[[16]byte, layout.AddressClass](maps.Hosts, "hosts")
	g.Nets = newTable[layout.NetKey, layout.AddressClass](maps.Nets, "nets")
	g.Interfaces = newTable[uint32, layout.Iface](maps.Interfaces, "interfaces")
	g.Sources = newTable[layout.SourceKey, uint8](maps.Sources, "sources")
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

// Close releases the generation. Links that were pinned keep its program and tables alive in the kernel.
func (g *Generation) Close() error {
	g.settings, g.last = nil, nil
	return errors.Join(g.Memory.close(), g.objects.Close())
}
