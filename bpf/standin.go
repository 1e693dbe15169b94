package bpf

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
)

// StandIn is the pair of programs of a generation, loaded a second time over the same tables: see MoveFirst.
type StandIn struct {
	Ingress *ebpf.Program `ebpf:"ingress"`
	Egress  *ebpf.Program `ebpf:"egress"`
}

// StandIn loads the programs a second time. The caller closes it.
func (g *Generation) StandIn() (*StandIn, error) {
	spec, err := generationSpec(g.Sizes, g.traced)
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["set"].Set(g.set); err != nil {
		return nil, fmt.Errorf("set the number of the tables of connections: %w", err)
	}
	tables := map[string]*ebpf.Map{}
	all := reflect.ValueOf(g.objects.programMaps)
	for i := range all.NumField() {
		name, m := all.Type().Field(i).Tag.Get("ebpf"), all.Field(i).Interface().(*ebpf.Map)
		tables[name] = m
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	s := &StandIn{}
	if err := spec.LoadAndAssign(s, &ebpf.CollectionOptions{MapReplacements: tables}); err != nil {
		return nil, explain("load the packet program again", err)
	}
	return s, nil
}

func (s *StandIn) program(hook Hook) *ebpf.Program {
	if hook == Egress {
		return s.Egress
	}
	return s.Ingress
}

// Close releases the programs. Where they are attached they stay.
func (s *StandIn) Close() {
	s.Ingress.Close()
	s.Egress.Close()
}
