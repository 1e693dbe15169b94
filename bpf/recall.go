package bpf

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// AttachedWorkloads lists the interfaces that have links pinned in dir whose program takes them for a workload's. The
// program may be that of a former process: its tables live as long as the link.
func AttachedWorkloads(dir string) (map[uint32]bool, error) {
	pinned, err := Attached(dir)
	if err != nil {
		return nil, err
	}
	workloads := map[uint32]bool{}
	var errs []error
	for ifindex, there := range pinned {
		if !there {
			continue
		}
		flags, err := flagsInForce(dir, ifindex)
		errs = append(errs, err)
		if flags&IfaceWorkload != 0 {
			workloads[ifindex] = true
		}
	}
	return workloads, errors.Join(errs...)
}

// flagsInForce are the flags of an interface in the tables of the program that its link runs.
func flagsInForce(dir string, ifindex uint32) (uint32, error) {
	l, err := adopt(filepath.Clean(linkPath(dir, ifindex, Ingress)), ifindex)
	if err != nil || l == nil {
		return 0, err
	}
	defer l.Close()
	interfaces, err := tableOf(l, "interfaces")
	if err != nil {
		return 0, fmt.Errorf("read the table of interface %d: %w", ifindex, err)
	}
	defer interfaces.Close()
	var entry Iface
	if err := interfaces.Lookup(ifindex, &entry); err != nil {
		return 0, fmt.Errorf("read the entry of interface %d: %w", ifindex, err)
	}
	return entry.Flags, nil
}

// tableOf opens a table of the program that a link runs.
func tableOf(l link.Link, name string) (*ebpf.Map, error) {
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	described, err := program.Info()
	if err != nil {
		return nil, err
	}
	ids, _ := described.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		if i, err := m.Info(); err == nil && i.Name == name {
			return m, nil
		}
		m.Close()
	}
	return nil, fmt.Errorf("its program has no table %s", name)
}
