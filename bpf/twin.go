package bpf

import (
	"errors"
	"math"

	"github.com/cilium/ebpf"
)

// Twin loads the generation's program a second time, over the same policy tables and with private state, to ask it
// about packets without any effect: see Run. It judges every packet as the first of its connection. Interfaces are
// those of the generation; the caller closes the twin before it.
func (g *Generation) Twin() (*Generation, error) {
	spec, err := generationSpec(g.Sizes, true)
	if err != nil {
		return nil, err
	}
	spec.Maps["flows_new"].MaxEntries = 64
	spec.Maps["events"].MaxEntries = 1 << 12
	maps := &g.objects.programMaps
	opts := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		"slots": maps.Slots, "vectors": maps.Vectors, "chunks": maps.Chunks, "wilds": maps.Wilds,
		"services": maps.Services, "source_ports": maps.SourcePorts,
		"hosts": maps.Hosts, "nets": maps.Nets, "interfaces": maps.Interfaces, "sources": maps.Sources,
		"locals": maps.Locals,
	}}
	twin := &Generation{Sizes: g.Sizes, shared: g.shared}
	if err := spec.LoadAndAssign(&twin.objects, opts); err != nil {
		return nil, explain("load a twin of the packet program", err)
	}
	if err := twin.open(); err != nil {
		return nil, errors.Join(err, twin.Close())
	}
	if err := twin.forgetAtOnce(); err != nil {
		return nil, errors.Join(err, twin.Close())
	}
	return twin, nil
}

// forgetAtOnce gives the twin settings under which every connection has always expired already.
func (g *Generation) forgetAtOnce() error {
	settings, mp, err := mapArray[Settings](g.objects.Config, "settings")
	if err != nil {
		return err
	}
	settings[0] = *g.shared.Settings
	settings[0].LogLevel = LogRules
	settings[0].Tables = uint32(programFlowTablesFLOW_TABLES_ONE)
	for i := range settings[0].Timeout {
		settings[0].Timeout[i] = math.MaxUint64 // less than any time, as a signed number
	}
	return mp.close()
}
