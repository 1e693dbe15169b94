package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// FormerSettings keeps, with the pins, the values that settings under /proc/sys had before the agent changed them. It
// is a map, because only maps have contents and can be pinned. It lives as long as the settings do: until the host
// boots.
type FormerSettings struct{ m *ebpf.Map }

// FormerSetting is a setting that was changed.
type FormerSetting struct {
	Path      string // under /proc/sys
	Interface uint32 // index of the interface that it is about; 0: about none
	Before    string // value before the first change
	Changed   string // value of the last change
}

// settingKey and settingValue are the layout of the map. No program reads it. Texts are filled up with zero bytes.
type settingKey struct {
	Path      [124]byte
	Interface uint32
}

type settingValue struct{ Before, Changed [32]byte }

const formerName = "former_settings"

// OpenFormerSettings opens the map in a pin directory, or makes it.
func OpenFormerSettings(dir string) (*FormerSettings, error) {
	if err := requireFS(dir); err != nil {
		return nil, err
	}
	m, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: formerName, Type: ebpf.Hash, KeySize: 128, ValueSize: 64, MaxEntries: 1 << 17, Flags: unix.BPF_F_NO_PREALLOC, Pinning: ebpf.PinByName,
	}, ebpf.MapOptions{PinPath: dir})
	if err != nil {
		return nil, explain("open the former values of settings in "+filepath.Join(dir, formerName), err)
	}
	return &FormerSettings{m}, nil
}

// Remember keeps the values of a setting that is about to be changed. If the setting is known, its first Before stays:
// that is the value to go back to.
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

// Forget removes a setting.
func (f *FormerSettings) Forget(s FormerSetting) error {
	key := settingKey{Interface: s.Interface}
	copy(key.Path[:], s.Path)
	if err := f.m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget the former value of %s: %w", s.Path, err)
	}
	return nil
}

// All returns all settings, in no order.
func (f *FormerSettings) All() (list []FormerSetting, err error) {
	var key settingKey
	var value settingValue
	text := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	entries := f.m.Iterate()
	for entries.Next(&key, &value) {
		list = append(list, FormerSetting{text(key.Path[:]), key.Interface, text(value.Before[:]), text(value.Changed[:])})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the former values of settings: %w", err)
	}
	return list, nil
}

// Close releases the map. Its contents stay pinned.
func (f *FormerSettings) Close() error { return f.m.Close() }

// Unpin removes the pin, and with it all settings.
func (f *FormerSettings) Unpin() error { return f.m.Unpin() }
