package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// flowSet is one set of tables for connections.
type flowSet struct {
	serial             int
	proven, new, crowd *ebpf.Map            // new: not proven yet; crowd: the same, of openers beyond their share
	pins               map[string]*ebpf.Map // by path
}

// flowTableNames returns the names of the tables of a set.
func flowTableNames() []string { return []string{"flows", "flows_new", "flows_crowd"} }

// maps returns the tables that are open.
func (p flowSet) maps() []*ebpf.Map {
	return slices.DeleteFunc([]*ebpf.Map{p.proven, p.new, p.crowd}, func(m *ebpf.Map) bool { return m == nil })
}

func (p flowSet) close() (err error) {
	for _, m := range p.maps() {
		err = errors.Join(err, m.Close())
	}
	return err
}

func (p flowSet) unpin() (err error) {
	for _, m := range p.maps() {
		err = errors.Join(err, m.Unpin())
	}
	return err
}

// flowTables are the set of tables in use and, while their size changes, the set before it. Among pinned sets, the one
// with the highest serial number is in use; a second one says that a change of size was under way.
type flowTables struct {
	current, old flowSet // old is empty unless a change of size is under way
	empty        flowSet // tables of one entry, which programs get in place of an old set
}

// replacements adds the maps that a program is loaded with, by their names in maps.h.
func (t *flowTables) replacements(out map[string]*ebpf.Map) {
	old := t.old
	if old.proven == nil {
		old = t.empty
	}
	out["flows"], out["flows_new"], out["flows_crowd"] = t.current.proven, t.current.new, t.current.crowd
	out["flows_old"], out["flows_new_old"], out["flows_crowd_old"] = old.proven, old.new, old.crowd
}

func (t *flowTables) close() error {
	return errors.Join(t.current.close(), t.old.close(), t.empty.close())
}

func (t *flowTables) unpin() error { return errors.Join(t.current.unpin(), t.old.unpin()) }

// openFlows opens the sets of tables that are pinned, or creates the first.
func (s *Shared) openFlows(spec *ebpf.CollectionSpec, sizes SharedSizes) error {
	serials, err := s.flowSerials(spec)
	if err != nil {
		return err
	}
	current := 1
	if n := len(serials); n > 0 {
		current = serials[n-1]
		if n > 1 {
			if s.tables.old, err = s.openSet(spec, serials[n-2], sizes); err != nil {
				return err
			}
		}
	}
	if s.tables.current, err = s.openSet(spec, current, sizes); err != nil {
		return err
	}
	s.tables.empty, err = emptySet(spec)
	return err
}

// flowSerials returns the serial numbers of the pinned sets, in ascending order.
func (s *Shared) flowSerials(spec *ebpf.CollectionSpec) (serials []int, err error) {
	prefix := s.path("flows", spec) + "_"
	paths, err := filepath.Glob(prefix + "*")
	if err != nil {
		return nil, fmt.Errorf("find pinned connections: %w", err)
	}
	for _, path := range paths {
		if n, err := strconv.Atoi(strings.TrimPrefix(path, prefix)); err == nil {
			serials = append(serials, n)
		}
	}
	slices.Sort(serials)
	return serials, nil
}

// openSet opens or creates one set. The table of proven connections is pinned last, as a restart looks for that.
func (s *Shared) openSet(spec *ebpf.CollectionSpec, serial int, sizes SharedSizes) (p flowSet, err error) {
	p.serial, p.pins = serial, map[string]*ebpf.Map{}
	// A restart looks for the table of proven connections, so that is pinned last.
	for _, t := range []struct {
		name    string
		entries uint32
		opened  **ebpf.Map
	}{{"flows_new", sizes.NewFlows, &p.new}, {"flows_crowd", sizes.NewFlows, &p.crowd}, {"flows", sizes.Flows, &p.proven}} {
		path := s.setPath(t.name, spec, serial)
		*t.opened, err = openPinned(sized(spec.Maps[t.name], t.entries), path)
		if err != nil {
			return flowSet{}, errors.Join(err, p.close())
		}
		p.pins[path] = *t.opened
	}
	return p, nil
}

func (s *Shared) setPath(name string, spec *ebpf.CollectionSpec, serial int) string {
	return fmt.Sprintf("%s_%d", s.path(name, spec), serial)
}

// sized is a spec with another number of entries.
func sized(spec *ebpf.MapSpec, entries uint32) *ebpf.MapSpec {
	spec = spec.Copy()
	spec.MaxEntries = max(entries, 1)
	return spec
}

// emptySet makes tables of one entry.
func emptySet(spec *ebpf.CollectionSpec) (p flowSet, err error) {
	for name, made := range map[string]**ebpf.Map{"flows_old": &p.proven, "flows_new_old": &p.new, "flows_crowd_old": &p.crowd} {
		if *made, err = ebpf.NewMap(sized(spec.Maps[name], 1)); err != nil {
			return flowSet{}, errors.Join(explain("create the stand-in for old connections", err), p.close())
		}
	}
	return p, nil
}

// FlowSizes returns the sizes of the tables of connections in use.
func (s *Shared) FlowSizes() SharedSizes {
	return SharedSizes{Flows: s.tables.current.proven.MaxEntries(), NewFlows: s.tables.current.new.MaxEntries()}
}

// FlowResize says how far a change of the size of the tables of connections is.
type FlowResize int

// The steps of a change of size, in their order.
const (
	FlowsOfOneSize FlowResize = iota // nothing is under way
	FlowsSwapping                    // a second set of tables is there; connections are kept in the first
	FlowsDraining                    // connections are kept in the second pair, and move there
)

// Resizing says how far a change of size is.
func (s *Shared) Resizing() FlowResize {
	switch {
	case s.tables.old.proven == nil:
		return FlowsOfOneSize
	case atomic.LoadUint32(&s.Settings.Set) == uint32(s.tables.current.serial):
		return FlowsDraining
	}
	return FlowsSwapping
}

// ResizeFlows begins a change of size: it makes a second set of tables beside the first. A generation that is loaded
// from now on knows both sets, and works in the first one, since older generations know only that.
//
// When no link runs an older generation, the caller calls DrainFlows, then Generation.Drain until nothing is left in
// the first set, then DropOldFlows. If the second set is too small for the proven connections, some stay in the first
// until they end.
func (s *Shared) ResizeFlows(n SharedSizes) error {
	if s.Resizing() != FlowsOfOneSize {
		return errors.New("resize the table of connections: another change of its size is under way")
	}
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("read the packet program: %w", err)
	}
	serial := s.tables.current.serial + 1
	// A process that ended in the middle of this may have left tables of another size.
	for _, name := range []string{"flows_new", "flows_crowd"} {
		if err := os.Remove(s.setPath(name, spec, serial)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("resize the table of connections: %w", err)
		}
	}
	set, err := s.openSet(spec, serial, n)
	if err != nil {
		return fmt.Errorf("resize the table of connections: %w", err)
	}
	s.tables.old, s.tables.current = s.tables.current, set
	s.setShare()
	return nil
}

// DrainFlows makes all programs work in the second set. Connections in the first set move with their next packets, or
// by Generation.Drain.
func (s *Shared) DrainFlows() {
	if s.Resizing() == FlowsSwapping {
		s.useTables(s.tables.current.serial, true)
	}
}

// DropOldFlows forgets the first set with the connections that are left in it; programs do not look there any more. Its memory is free
// once another generation has replaced those that were loaded with both sets.
func (s *Shared) DropOldFlows() error {
	if s.Resizing() == FlowsOfOneSize {
		return nil
	}
	s.useTables(s.tables.current.serial, false)
	err := errors.Join(s.tables.old.unpin(), s.tables.old.close())
	s.tables.old = flowSet{}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop the old table of connections: %w", err)
	}
	return nil
}

// useTables tells programs in which set connections are kept, and whether some may still be in the set before it.
func (s *Shared) useTables(serial int, draining bool) {
	var also uint32
	if draining {
		also = 1
	}
	atomic.StoreUint32(&s.Settings.Draining, also) // first: no program may miss the old tables
	atomic.StoreUint32(&s.Settings.Set, uint32(serial))
}

// resumeResize continues a change of size after a restart.
func (s *Shared) resumeResize() {
	switch s.Resizing() {
	case FlowsOfOneSize:
		s.useTables(s.tables.current.serial, false)
	case FlowsSwapping:
		s.useTables(s.tables.old.serial, false)
	case FlowsDraining:
		s.useTables(s.tables.current.serial, true)
	}
}
