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
	serial      int
	proven, new *ebpf.Map
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

// flowTables are the tables in use and, while they grow, the ones before. What is pinned with the highest serial
// number is in use; a second one says that growth was under way.
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
	suffix := fmt.Sprintf("_%d", serial)
	// The table of proven connections is what a restart looks for, so it is pinned last.
	p.new, err = openPinned(sized(spec.Maps["flows_new"], sizes.NewFlows), s.path("flows_new", spec)+suffix)
	if err != nil {
		return flowPair{}, err
	}
	p.proven, err = openPinned(sized(spec.Maps["flows"], sizes.Flows), s.path("flows", spec)+suffix)
	if err != nil {
		return flowPair{}, errors.Join(err, p.new.Close())
	}
	return p, nil
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

// Growing tells that a second pair of tables exists: after GrowFlows and until DropOldFlows.
func (s *Shared) Growing() bool { return s.tables.old.proven != nil }

// GrowFlows makes a second pair of tables for connections beside the first, with room for n. A generation that is
// loaded from now on knows both and works in the first, since older generations know only that one. When no link
// runs an older generation, call DrainFlows; when the first has drained, DropOldFlows.
func (s *Shared) GrowFlows(n SharedSizes) error {
	if s.Growing() {
		return errors.New("grow the table of connections: it is growing already")
	}
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("read the packet program: %w", err)
	}
	pair, err := s.openPair(spec, s.tables.current.serial+1, n)
	if err != nil {
		return fmt.Errorf("grow the table of connections: %w", err)
	}
	s.setTables(programFlowTablesFLOW_TABLES_SWAP)
	s.tables.old, s.tables.current = s.tables.current, pair
	s.setShare()
	return nil
}

// DrainFlows makes connections move to the second pair of tables as their packets come.
func (s *Shared) DrainFlows() {
	if s.Growing() {
		s.setTables(programFlowTablesFLOW_TABLES_DRAIN)
	}
}

// DropOldFlows forgets the first pair of tables with what is left in it. The next generation has one pair only.
func (s *Shared) DropOldFlows() error {
	if !s.Growing() {
		return nil
	}
	s.setTables(programFlowTablesFLOW_TABLES_ONE)
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

func (s *Shared) setTables(t programFlowTables) {
	atomic.StoreUint32(&s.Settings.Tables, uint32(t))
}

// recoverTables sets which tables count after a restart: with two pairs, links may run either generation.
func (s *Shared) recoverTables() {
	switch {
	case !s.Growing():
		s.setTables(programFlowTablesFLOW_TABLES_ONE)
	case atomic.LoadUint32(&s.Settings.Tables) == uint32(programFlowTablesFLOW_TABLES_ONE):
		s.setTables(programFlowTablesFLOW_TABLES_SWAP)
	}
}
