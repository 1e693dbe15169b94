package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// RunningWorkloads returns the interfaces that run a program of ours which treats them as a workload's. That program
// may be of a former process: its tables live as long as its link.
func (h *Hooks) RunningWorkloads(ifindexes []uint32) (map[uint32]bool, error) {
	workloads := map[uint32]bool{}
	running := map[ebpf.ProgramID][]uint32{} // many interfaces run one program
	var errs []error
	for _, ifindex := range ifindexes {
		ours, err := h.ours(ifindex)
		errs = append(errs, err)
		for _, f := range ours {
			running[f.Program] = append(running[f.Program], ifindex)
		}
	}
	for id, ifindexes := range running {
		errs = append(errs, addWorkloads(workloads, id, ifindexes))
	}
	return workloads, errors.Join(errs...)
}

// addWorkloads adds the interfaces that have a workload's entry in the tables of a program.
func addWorkloads(workloads map[uint32]bool, id ebpf.ProgramID, ifindexes []uint32) error {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer program.Close()
	tables, err := tablesOf(program, "interfaces")
	defer closeAll(tables)
	if err != nil || tables["interfaces"] == nil {
		return errors.Join(fmt.Errorf("read the interfaces of program %d", id), err)
	}
	for _, ifindex := range ifindexes {
		var entry layout.Iface
		if e := tables["interfaces"].Lookup(ifindex, &entry); e != nil {
			err = errors.Join(err, fmt.Errorf("read the entry of interface %d: %w", ifindex, e))
		}
		if entry.Flags&layout.IfaceWorkload != 0 {
			workloads[ifindex] = true
		}
	}
	return err
}

// tablesOf opens the tables of a program that have one of the names. The caller closes them, also after an error.
func tablesOf(program *ebpf.Program, names ...string) (map[string]*ebpf.Map, error) {
	tables := map[string]*ebpf.Map{}
	info, err := program.Info()
	if err != nil {
		return tables, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return tables, err
		}
		described, err := m.Info()
		if err == nil && wanted[described.Name] && tables[described.Name] == nil {
			tables[described.Name] = m
			continue
		}
		m.Close()
	}
	return tables, nil
}

func closeAll(tables map[string]*ebpf.Map) {
	for _, m := range tables {
		m.Close()
	}
}
