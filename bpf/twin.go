package bpf

import (
	"errors"
	"math"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// Twin loads the program of a generation a second time, over the same tables of policy and with connections, counters
// and settings of its own, so that Run has no effect. It judges each packet as the first of its connection. The caller
// closes the twin before the generation.
func (g *Generation) Twin() (*Generation, error) {
	spec, err := generationSpec(g.Sizes, true)
	if err != nil {
		return nil, err
	}
	spec.Maps["flows_new"].MaxEntries = 64
	spec.Maps["flows_crowd"].MaxEntries = 64
	spec.Maps["events"].MaxEntries = 1 << 12
	maps := &g.objects.programMaps
	opts := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		"slots": maps.Slots, "vectors": maps.Vectors, "chunks": maps.Chunks, "wilds": maps.Wilds,
		"services": maps.Services, "source_ports": maps.SourcePorts,
		"hosts": maps.Hosts, "nets": maps.Nets, "interfaces": maps.Interfaces, "sources": maps.Sources, "source_nets": maps.SourceNets,
		"locals": maps.Locals,
	}}
	twin := &Generation{Sizes: g.Sizes, shared: g.shared}
	if err := spec.LoadAndAssign(&twin.objects, opts); err != nil {
		return nil, explain("load a twin of the packet program", err)
	}
	if err := twin.open(); err != nil {
		return nil, errors.Join(err, twin.Close())
	}
	twin.forgetAtOnce()
	return twin, nil
}

// forgetAtOnce gives the twin settings under which every connection has always expired, and a mark by which a test run
// proves that this host sends a packet.
func (g *Generation) forgetAtOnce() {
	s := &g.settings[0]
	*s = *g.shared.Settings
	s.HostMark = 1
	s.LogLevel = layout.LogRules
	s.Set, s.Draining = 1, 0
	for i := range s.Timeout {
		s.Timeout[i] = math.MaxUint64 // less than any time, as a signed number
	}
}
