package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Restore makes the pin directory again if it was unmounted or removed. It returns true if it did; nothing is pinned
// there then.
func (p *Pins) Restore() (restored bool, err error) {
	there, err := p.there()
	if err != nil || there {
		return false, err
	}
	next, err := OpenPins(p.dir)
	if err != nil {
		return false, fmt.Errorf("the pin directory is gone, and felix could not make it again: restart felix: %w", err)
	}
	// The descriptor stays the same: Path may be made of it.
	err = unix.Dup3(int(next.file.Fd()), int(p.file.Fd()), unix.O_CLOEXEC)
	return err == nil, errors.Join(err, next.file.Close())
}

// there says whether a later agent would find the directory that is locked.
func (p *Pins) there() (bool, error) {
	var held, found unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &held); err != nil {
		return false, fmt.Errorf("read the state of the pin directory %s: %w", p.dir, err)
	}
	if p.at == mountedByFirst {
		first, err := mountsOf("1")
		return held.Nlink > 0 && first.has(held.Dev), err
	}
	err := unix.Stat(p.dir, &found)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return found.Dev == held.Dev && found.Ino == held.Ino, err
}

// Pinned returns the names of all pins in a directory.
func Pinned(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the pin directory: %w", err)
	}
	names := map[string]bool{}
	for _, entry := range entries {
		names[entry.Name()] = true
	}
	return names, nil
}

// Repin pins links of the Attachment whose names are not in pinned, and returns how many. It leaves out links that are
// not attached any more.
func (a *Attachment) Repin(dir string, pinned map[string]bool) (n int, err error) {
	for _, hook := range []Hook{Ingress, Egress} {
		path := linkPath(dir, a.Ifindex, hook)
		if pinned[filepath.Base(path)] || attachedTo(a.links[hook]) != a.Ifindex {
			continue
		}
		if e := pinAgain(a.links[hook], path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		n++
	}
	return n, err
}

// pinAgain pins a link by another handle, because its own handle takes it for pinned.
func pinAgain(l link.Link, path string) error {
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("read the link of %s: %w", path, err)
	}
	again, err := link.NewFromID(info.ID)
	if err == nil {
		err = errors.Join(again.Pin(path), again.Close())
	}
	return explain("pin the link at "+path, err)
}

// Repin pins shared tables whose names are not in pinned, and returns how many.
func (s *Shared) Repin(pinned map[string]bool) (n int, err error) {
	tables := map[string]*ebpf.Map{}
	for name, m := range s.maps {
		tables[s.paths[name]] = m
	}
	maps.Copy(tables, s.tables.current.pins)
	maps.Copy(tables, s.tables.old.pins)
	for path, m := range tables {
		if pinned[filepath.Base(path)] {
			continue
		}
		if e := pinMapAgain(m, path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		n++
	}
	return n, err
}

// Repin pins the map if its name is not in pinned, and returns how many it pinned.
func (f *FormerSettings) Repin(dir string, pinned map[string]bool) (int, error) {
	if pinned[formerName] {
		return 0, nil
	}
	return 1, pinMapAgain(f.m, filepath.Join(dir, formerName))
}

// pinMapAgain pins a map by another handle, because its own handle takes it for pinned.
func pinMapAgain(m *ebpf.Map, path string) error {
	again, err := m.Clone() // its own handle believes that it is pinned
	if err == nil {
		err = errors.Join(again.Pin(path), again.Close())
	}
	return explain("pin map "+path, err)
}
