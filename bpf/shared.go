package bpf

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/margay-project/margay/bpf/layout"
)

// SharedSizes are the sizes of tables that outlive generations. They count when a table is created; a pinned table
// keeps its size until ResizeFlows.
type SharedSizes struct {
	Flows    uint32 // proven connections
	NewFlows uint32 // connections that are not proven yet; the crowd's table has as many entries again
}

// SharedSizesFor returns sizes for a number of proven connections: an eighth of it for unproven ones, at least 4,096
// for a burst on a small node.
func SharedSizesFor(flows uint32) SharedSizes {
	return SharedSizes{Flows: flows, NewFlows: max(flows/8, 4096)}
}

// DefaultSharedSizes are the sizes for a node of ordinary size.
func DefaultSharedSizes() SharedSizes { return SharedSizesFor(512_000) }

// Shared is the state that generations share and that outlives the agent: connections, the epoch, settings, counters
// and events. Each table is pinned under a name with a hash of its layout. An agent with another layout makes tables of
// its own beside it, and never misreads it.
type Shared struct {
	Settings *layout.Settings       // in the kernel's memory: a program reads each field with its next packet. Write atomically
	Locals   Table[[16]byte, uint8] // addresses of this host, see Address; the value has no meaning

	dir      string
	epoch    *uint64 // in the kernel's memory
	maps     map[string]*ebpf.Map
	paths    map[string]string // path of the pin of each map
	tables   flowTables
	mappings []*mapping
}

// pinned returns the names of the shared tables but those for connections, which have a serial number too.
func pinned() []string {
	return []string{"fragments", "shares", "openings", "locals", "epoch", "config", "rule_hits", "reasons", "event_times", "events", "questions", "question_times"}
}

// OpenShared opens the shared state that is pinned in dir, a bpf file system (see OpenPins), and creates the tables
// that are not there. The caller closes it after all generations.
func OpenShared(dir string, sizes SharedSizes) (*Shared, error) {
	if err := requireFS(dir); err != nil {
		return nil, err
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("read the packet program: %w", err)
	}
	s := &Shared{dir: dir, maps: map[string]*ebpf.Map{}, paths: map[string]string{}}
	for _, name := range pinned() {
		if err == nil {
			s.paths[name] = s.path(name, spec)
			s.maps[name], err = openPinned(spec.Maps[name], s.paths[name])
		}
	}
	if err == nil {
		err = s.openFlows(spec, sizes)
	}
	if err == nil {
		err = s.openMemory()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Locals = newTable[[16]byte, uint8](s.maps["locals"], "addresses of this host")
	return s, nil
}

func (s *Shared) path(name string, spec *ebpf.CollectionSpec) string {
	return filepath.Join(s.dir, name+"_"+layoutOf(spec.Maps[name]))
}

// layoutOf is a hash of everything that two programs must agree on to share a table.
func layoutOf(m *ebpf.MapSpec) string {
	h := fnv.New32a()
	fmt.Fprintln(h, m.Type, m.KeySize, m.ValueSize, m.Flags)
	if m.Type == ebpf.PerCPUArray { // its size is that of an enumeration
		fmt.Fprintln(h, m.MaxEntries)
	}
	var text btf.GoFormatter
	for _, t := range []btf.Type{m.Key, m.Value} {
		if t == nil {
			continue
		}
		if declaration, err := text.TypeDeclaration("t", t); err == nil {
			fmt.Fprintln(h, declaration)
		}
	}
	return fmt.Sprintf("%08x", h.Sum32())
}

// openPinned opens the table at path, or creates and pins it there.
func openPinned(spec *ebpf.MapSpec, path string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, explain("open pinned map "+path, err)
	}
	m, err = ebpf.NewMap(spec)
	if err != nil {
		return nil, explain("create map "+spec.Name, err)
	}
	if err := m.Pin(path); err != nil {
		return nil, errors.Join(explain("pin map "+path, err), m.Close())
	}
	return m, nil
}

func (s *Shared) openMemory() error {
	epoch, mp, err := mapArray[uint64](s.maps["epoch"], "epoch")
	if err != nil {
		return err
	}
	s.mappings = append(s.mappings, mp)
	s.epoch = &epoch[0]
	atomic.CompareAndSwapUint64(s.epoch, 0, 1)
	settings, mp, err := mapArray[layout.Settings](s.maps["config"], "settings")
	if err != nil {
		return err
	}
	s.mappings = append(s.mappings, mp)
	s.Settings = &settings[0]
	if s.Settings.Timeout[layout.FlowTCPEstablished] == 0 {
		*s.Settings = DefaultSettings()
		s.Settings.Crowding = uint32(layout.Crowded) // tables of a former layout of settings may hold some; a sweep finds out
	}
	s.resumeResize()
	s.setShare()
	if s.Settings.OpeningShare == 0 {
		s.setOpeningShare(0)
	}
	return nil
}

// DefaultSettings are Calico's timeouts, an end for flows that policy does not allow any more, and events for drops, at
// most 1,000 a second on each processor.
func DefaultSettings() layout.Settings {
	return layout.Settings{
		Timeout: [layout.FlowStates]uint64{
			layout.FlowTCPOpening:     uint64(20 * time.Second),
			layout.FlowTCPEstablished: uint64(time.Hour),
			layout.FlowTCPFins:        uint64(30 * time.Second),
			layout.FlowTCPReset:       uint64(40 * time.Second),
			layout.FlowUDP:            uint64(60 * time.Second),
			layout.FlowICMP:           uint64(5 * time.Second),
			layout.FlowGeneric:        uint64(10 * time.Minute),
		},
		LogLevel: layout.LogDrops,
		Revoke:   1,
		EventGap: uint64(time.Millisecond),
	}
}

// Epoch returns the number of the last policy change. Each approval of a connection carries the epoch in which it was
// given.
func (s *Shared) Epoch() uint64 { return atomic.LoadUint64(s.epoch) }

// AdvanceEpoch has every connection judged again with its next packet. Call it after the last write of a change of
// policy or of the addresses of this host, and after the swap of a generation.
func (s *Shared) AdvanceEpoch() uint64 { return atomic.AddUint64(s.epoch, 1) }

// replacements returns the maps that a program is loaded with, in place of new ones.
func (s *Shared) replacements() map[string]*ebpf.Map {
	out := map[string]*ebpf.Map{}
	for name, m := range s.maps {
		out[name] = m
	}
	s.tables.replacements(out)
	return out
}

// Close releases the handles. The pinned state stays.
func (s *Shared) Close() error {
	var err error
	for _, mp := range s.mappings {
		err = errors.Join(err, mp.close())
	}
	for _, m := range s.maps {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
	}
	s.epoch, s.Settings, s.mappings, s.maps = nil, nil, nil, nil
	return errors.Join(err, s.tables.close())
}

// Unpin removes the pins. Connections and counters are gone once no program uses them any more.
func (s *Shared) Unpin() error {
	var err error
	for _, m := range s.maps {
		err = errors.Join(err, m.Unpin())
	}
	return errors.Join(err, s.tables.unpin())
}
