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

// flowPair is one pair of tables for connections: proven, and yet to be proven.
type flowPair struct {
	serial              int
	proven, new         *ebpf.Map
	provenPath, newPath string // where they are pinned
}

func (p flowPair) close() error {
	if p.proven == nil {
		return nil
	}
	return errors.Join(p.proven.Close(), p.new.Close())
}

func (p flowPair) unpin() error {
	if p.proven == nil {
		return nil
	}
	return errors.Join(p.proven.Unpin(), p.new.Unpin())
}

// flowTables are the tables in use and, while their size changes, the ones before. What is pinned with the highest
// serial number is in use; a second one says that a change of size was under way.
type flowTables struct {
	current, old flowPair
	none         flowPair // a stand-in of one entry for old
}

func (t *flowTables) replacements(out map[string]*ebpf.Map) {
	old := t.old
	if old.proven == nil {
		old = t.none
	}
	out["flows"], out["flows_new"] = t.current.proven, t.current.new
	out["flows_old"], out["flows_new_old"] = old.proven, old.new
}

func (t *flowTables) close() error {
	return errors.Join(t.current.close(), t.old.close(), t.none.close())
}

func (t *flowTables) unpin() error { return errors.Join(t.current.unpin(), t.old.unpin()) }

// openFlows opens the pairs of tables that are pinned, or creates the first.
func (s *Shared) openFlows(spec *ebpf.CollectionSpec, sizes SharedSizes) error {
	serials, err := s.flowSerials(spec)
	if err != nil {
		return err
	}
	current := 1
	if n := len(serials); n > 0 {
		current = serials[n-1]
		if n > 1 {
			if s.tables.old, err = s.openPair(spec, serials[n-2], sizes); err != nil {
				return err
			}
		}
	}
	if s.tables.current, err = s.openPair(spec, current, sizes); err != nil {
		return err
	}
	s.tables.none, err = standIn(spec)
	return err
}

// flowSerials lists the serial numbers of the pinned tables, ascending.
func (s *Shared) flowSerials(spec *ebpf.CollectionSpec) (serials []int, err error) {
	prefix := s.path("flows", spec) + "_"
	paths, err := filepath.Glob(prefix + "*")
	if err != nil {
		return nil, fmt.Errorf("look for pinned connections: %w", err)
	}
	for _, path := range paths {
		if n, err := strconv.Atoi(strings.TrimPrefix(path, prefix)); err == nil {
			serials = append(serials, n)
		}
	}
	slices.Sort(serials)
	return serials, nil
}

func (s *Shared) openPair(spec *ebpf.CollectionSpec, serial int, sizes SharedSizes) (p flowPair, err error) {
	p.serial = serial
	p.newPath, p.provenPath = s.pairPath("flows_new", spec, serial), s.pairPath("flows", spec, serial)
	// The table of proven connections is what a restart looks for, so it is pinned last.
	p.new, err = openPinned(sized(spec.Maps["flows_new"], sizes.NewFlows), p.newPath)
	if err != nil {
		return flowPair{}, err
	}
	p.proven, err = openPinned(sized(spec.Maps["flows"], sizes.Flows), p.provenPath)
	if err != nil {
		return flowPair{}, errors.Join(err, p.new.Close())
	}
	return p, nil
}

func (s *Shared) pairPath(name string, spec *ebpf.CollectionSpec, serial int) string {
	return fmt.Sprintf("%s_%d", s.path(name, spec), serial)
}

func sized(spec *ebpf.MapSpec, entries uint32) *ebpf.MapSpec {
	spec = spec.Copy()
	spec.MaxEntries = max(entries, 1)
	return spec
}

func standIn(spec *ebpf.CollectionSpec) (p flowPair, err error) {
	if p.proven, err = ebpf.NewMap(sized(spec.Maps["flows_old"], 1)); err != nil {
		return flowPair{}, explain("create the stand-in for old connections", err)
	}
	if p.new, err = ebpf.NewMap(sized(spec.Maps["flows_new_old"], 1)); err != nil {
		return flowPair{}, errors.Join(explain("create the stand-in for old connections", err), p.proven.Close())
	}
	return p, nil
}

// FlowSizes are the sizes of the tables of connections in use.
func (s *Shared) FlowSizes() SharedSizes {
	return SharedSizes{Flows: s.tables.current.proven.MaxEntries(), NewFlows: s.tables.current.new.MaxEntries()}
}

// FlowResize says how far a change of the size of the tables of connections is.
type FlowResize int

// The steps of a change of size, in their order.
const (
	FlowsOfOneSize FlowResize = iota // nothing is under way
	FlowsSwapping                    // a second pair of tables is there; connections are kept in the first
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

// ResizeFlows makes a second pair of tables for connections beside the first. A generation that is loaded from now on
// knows both and works in the first, since older generations know only that one. When no link runs an older generation, call
// DrainFlows, then Generation.Drain until nothing is left in the first pair, then DropOldFlows.
//
// The second pair must have room for the proven connections of the first: the rest would stay there until they end.
func (s *Shared) ResizeFlows(n SharedSizes) error {
	if s.Resizing() != FlowsOfOneSize {
		return errors.New("resize the table of connections: another change of its size is under way")
	}
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("read the packet program: %w", err)
	}
	serial := s.tables.current.serial + 1
	// What a process that ended in the middle of this left there has another size.
	if err := os.Remove(s.pairPath("flows_new", spec, serial)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("resize the table of connections: %w", err)
	}
	pair, err := s.openPair(spec, serial, n)
	if err != nil {
		return fmt.Errorf("resize the table of connections: %w", err)
	}
	s.tables.old, s.tables.current = s.tables.current, pair
	s.setShare()
	return nil
}

// DrainFlows has connections kept in the second pair of tables from now on. Those in the first move as their packets
// come, or when Generation.Drain moves them.
func (s *Shared) DrainFlows() {
	if s.Resizing() == FlowsSwapping {
		s.workIn(s.tables.current.serial, true)
	}
}

// DropOldFlows forgets the first pair of tables with what is left in it. Programs no longer look there. The next
// generation has one pair only; the memory is free once it has replaced those that know both.
func (s *Shared) DropOldFlows() error {
	if s.Resizing() == FlowsOfOneSize {
		return nil
	}
	s.workIn(s.tables.current.serial, false)
	err := errors.Join(s.tables.old.unpin(), s.tables.old.close())
	s.tables.old = flowPair{}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop the old table of connections: %w", err)
	}
	return nil
}

// setShare lets no endpoint have more than half of the proven connections.
func (s *Shared) setShare() {
	atomic.StoreUint32(&s.Settings.Share, max(s.tables.current.proven.MaxEntries()/2, 1))
}

// workIn says in which pair of tables connections are kept, and whether some may still be in the one before it.
func (s *Shared) workIn(serial int, draining bool) {
	var also uint32
	if draining {
		also = 1
	}
	atomic.StoreUint32(&s.Settings.Draining, also) // first: no program may miss the old tables
	atomic.StoreUint32(&s.Settings.Set, uint32(serial))
}

// recoverTables goes on after a restart where a change of size was.
func (s *Shared) recoverTables() {
	switch s.Resizing() {
	case FlowsOfOneSize:
		s.workIn(s.tables.current.serial, false)
	case FlowsSwapping:
		s.workIn(s.tables.old.serial, false)
	case FlowsDraining:
		s.workIn(s.tables.current.serial, true)
	}
}
