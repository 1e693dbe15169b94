package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// FormerSettings remembers, with the pins, what settings under /proc/sys were before they were changed. A map is the only
// thing with contents that can be pinned, and it lives as long as the settings do: until the host is booted.
type FormerSettings struct{ m *ebpf.Map }

// FormerSetting is one setting: its value before it was changed, and the value that it was changed to.
type FormerSetting struct {
	Path      string // under /proc/sys
	Interface uint32 // index of the interface whose setting it is; 0: of none
	Before    string
	Changed   string
}

// settingKey and settingValue are the layout of the map; no program reads it.
type settingKey struct {
	Path      [124]byte
	Interface uint32
}

type settingValue struct{ Before, Changed [32]byte }

const formerName = "former_settings"

// OpenFormerSettings opens what is remembered in the pin directory, or makes it.
func OpenFormerSettings(dir string) (*FormerSettings, error) {
	if err := requireFS(dir); err != nil {
		return nil, err
	}
	m, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: formerName, Type: ebpf.Hash, KeySize: 128, ValueSize: 64, MaxEntries: 1 << 17, Flags: unix.BPF_F_NO_PREALLOC, Pinning: ebpf.PinByName,
	}, ebpf.MapOptions{PinPath: dir})
	if err != nil {
		return nil, explain("remember settings in "+filepath.Join(dir, formerName), err)
	}
	return &FormerSettings{m}, nil
}

// Remember keeps the value of a setting before it is changed, and the value that it is changed to. Of several changes the
// first Before stays, for it is the value to go back to, and the last Changed.
func (f *FormerSettings) Remember(s FormerSetting) error {
	key, value := settingKey{Interface: s.Interface}, settingValue{}
	if copy(key.Path[:], s.Path) < len(s.Path) || copy(value.Before[:], s.Before) < len(s.Before) || copy(value.Changed[:], s.Changed) < len(s.Changed) {
		return fmt.Errorf("remember that %s was %q: too long", s.Path, s.Before)
	}
	var known settingValue
	err := f.m.Lookup(&key, &known)
	if err == nil {
		value.Before = known.Before
	}
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		err = f.m.Update(&key, &value, ebpf.UpdateAny)
	}
	if err != nil {
		return fmt.Errorf("remember that %s was %q: %w", s.Path, s.Before, err)
	}
	return nil
}

// Forget forgets one setting.
func (f *FormerSettings) Forget(s FormerSetting) error {
	key := settingKey{Interface: s.Interface}
	copy(key.Path[:], s.Path)
	if err := f.m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget what %s was: %w", s.Path, err)
	}
	return nil
}

// All returns everything that is remembered.
func (f *FormerSettings) All() (list []FormerSetting, err error) {
	var key settingKey
	var value settingValue
	text := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	entries := f.m.Iterate()
	for entries.Next(&key, &value) {
		list = append(list, FormerSetting{text(key.Path[:]), key.Interface, text(value.Before[:]), text(value.Changed[:])})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read what settings were: %w", err)
	}
	return list, nil
}

// Close releases the map. Its contents stay pinned.
func (f *FormerSettings) Close() error { return f.m.Close() }

// Unpin forgets everything.
func (f *FormerSettings) Unpin() error { return f.m.Unpin() }
