package bpf

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
)

// Inherit makes the pin directory dir continue the connections of a former agent that pinned elsewhere. It finds that
// agent by its programs, which still run on these interfaces, and pins their shared tables in dir, in place of those
// that an earlier agent left there. It returns false if there was no such agent. Call it before OpenShared.
func (h *Hooks) Inherit(dir string, ifindexes []uint32) (bool, error) {
	newest, at := Found{}, map[ebpf.ProgramID]int{}
	for _, ifindex := range ifindexes {
		ours, err := h.ours(ifindex)
		if err != nil {
			return false, err
		}
		for _, f := range ours {
			at[f.Program]++
			if f.Program > newest.Program {
				newest = f
			}
		}
	}
	if newest.Program == 0 {
		return false, nil
	}
	if err := inherit(dir, newest, at[newest.Program]); err != nil {
		return false, fmt.Errorf("take over the connections of a former felix: %w", err)
	}
	return true, nil
}

func inherit(dir string, from Found, here int) error {
	program, err := ebpf.NewProgramFromID(from.Program)
	if err != nil {
		return err
	}
	defer program.Close()
	tables, err := tablesOf(program, append(inherited(), "flows_old", "interfaces")...)
	defer closeAll(tables)
	if err != nil {
		return err
	}
	if err := livesHere(tables["interfaces"], here); err != nil {
		return err
	}
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("read the packet program: %w", err)
	}
	for _, name := range inherited() {
		if tables[name] == nil || !sameLayout(spec.Maps[name], tables[name]) {
			return fmt.Errorf("it is of another version, whose table %s has another layout", name)
		}
	}
	if old := tables["flows_old"]; old == nil || old.MaxEntries() > 1 { // 1: a stand-in
		return errors.New("it was changing the size of its table of connections")
	}
	var settings layout.Settings
	if err := tables["config"].Lookup(uint32(0), &settings); err != nil {
		return fmt.Errorf("read its settings: %w", err)
	}
	return pinInherited(&Shared{dir: dir}, spec, tables, int(max(settings.Set, 1)))
}

// inherited returns the names of the tables that a former agent must have.
func inherited() []string { return append(pinned(), flowTableNames()...) }

// livesHere returns an error unless the program is that of an agent of this network namespace. An interface that was
// moved here brings along a program of an agent elsewhere; most interfaces of that agent are not here. `here` counts
// the interfaces that run the program here.
func livesHere(interfaces *ebpf.Map, here int) error {
	var ifindex uint32
	var entry layout.Iface
	n := 0
	for entries := interfaces.Iterate(); entries.Next(&ifindex, &entry); {
		n++
	}
	if 2*here <= n {
		return fmt.Errorf("of its %d interfaces only %d are in this network namespace", n, here)
	}
	return nil
}

func pinInherited(s *Shared, spec *ebpf.CollectionSpec, tables map[string]*ebpf.Map, serial int) error {
	serials, err := s.flowSerials(spec)
	if err != nil {
		return err
	}
	for _, n := range serials {
		for _, name := range flowTableNames() {
			err = errors.Join(err, removePin(s.setPath(name, spec, n)))
		}
	}
	paths := map[string]string{}
	for _, name := range flowTableNames() {
		paths[name] = s.setPath(name, spec, serial)
	}
	for _, name := range pinned() {
		paths[name] = s.path(name, spec)
	}
	for name, path := range paths {
		if e := errors.Join(removePin(path), tables[name].Pin(path)); e != nil {
			err = errors.Join(err, explain("pin map "+filepath.Base(path), e))
		}
	}
	return err
}

// sameLayout says whether a table has the layout of a spec: everything that programs must agree on to share it.
func sameLayout(spec *ebpf.MapSpec, m *ebpf.Map) bool {
	is := spec.Copy()
	is.Type, is.KeySize, is.ValueSize, is.Flags = m.Type(), m.KeySize(), m.ValueSize(), m.Flags()&^(unix.BPF_F_RDONLY|unix.BPF_F_WRONLY)
	if is.Type == ebpf.PerCPUArray {
		is.MaxEntries = m.MaxEntries()
	}
	if spec.Key != nil || spec.Value != nil {
		types, err := typesOf(m)
		if err != nil {
			return false
		}
		is.Key, is.Value = sameName(types, spec.Key), sameName(types, spec.Value)
	}
	return layoutOf(is) == layoutOf(spec)
}

// typesOf returns the BTF types that a table was created with.
func typesOf(m *ebpf.Map) (*btf.Spec, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.BTFID()
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	return handle.Spec(nil)
}

// sameName returns the type with the name of t; t itself if it has no name, as its size tells enough.
func sameName(types *btf.Spec, t btf.Type) btf.Type {
	if t == nil || t.TypeName() == "" {
		return t
	}
	found, err := types.AnyTypeByName(t.TypeName())
	if err != nil {
		return nil
	}
	return found
}
