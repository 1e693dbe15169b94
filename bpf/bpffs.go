package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MountFS makes sure that dir is a bpf file system, in which maps and links can be pinned. It creates the directory
// and mounts where needed, in the mount namespace of this process: see OpenPins for what must outlive it.
func MountFS(dir string) error { return mountedHere.mount(dir) }

// CheckFS says why OpenPins would fail, as far as that can be found out without a trace.
func CheckFS(dir string) error {
	at, err := placeOf(dir)
	if err != nil {
		return err
	}
	return at.do(dir, func() error { return at.check(dir) })
}

func explainMount(dir string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("mount a bpf file system on %s: the kernel has none: CONFIG_BPF_SYSCALL is needed: %w", dir, err)
	}
	return explain("mount a bpf file system on "+dir, err)
}

func isBPFFS(dir string) bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false
	}
	return uint32(fs.Type) == unix.BPF_FS_MAGIC
}

func requireFS(dir string) error {
	if isBPFFS(dir) {
		return nil
	}
	return fmt.Errorf("pin to %s: it is no bpf file system: mount one there (mount -t bpf bpf %s)", dir, dir)
}

// Pins is a pin directory that outlives this process, and that no other agent uses at the same time, by whatever path and
// in whatever namespaces.
type Pins struct {
	dir  string
	at   place
	file *os.File // has the lock; nil: closed
}

// OpenPins mounts a bpf file system on dir, if there is none that outlives this process, and locks it. The lock ends with
// the process.
func OpenPins(dir string) (*Pins, error) {
	at, err := placeOf(dir)
	if err != nil {
		return nil, err
	}
	p := &Pins{dir: dir, at: at}
	err = at.do(dir, func() (err error) {
		if err = at.mount(dir); err == nil {
			p.file, err = os.Open(dir)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another felix%s pins to %s: stop it, or give each network namespace its own --pin-dir", holderOf(p.file), dir)
	} else if err != nil {
		err = fmt.Errorf("lock the pin directory %s: %w", dir, err)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Path is where this process finds the pins: not always by the name of the directory.
func (p *Pins) Path() string {
	if p.at == mountedByFirst {
		return fmt.Sprintf("/proc/self/fd/%d", p.file.Fd())
	}
	return p.dir
}

// Close gives the lock back. The pins stay.
func (p *Pins) Close() error {
	if p.file == nil {
		return nil
	}
	file := p.file
	p.file = nil
	return file.Close()
}

// systemBPFFS is the one that other programs pin in as well.
const systemBPFFS = "/sys/fs/bpf"

// Remove removes what is pinned, also by an agent with other layouts, gives the lock back, and removes the mount and
// the directory.
func (p *Pins) Remove() error {
	if filepath.Clean(p.dir) == systemBPFFS {
		return p.Close()
	}
	entries, err := os.ReadDir(p.Path())
	for _, entry := range entries {
		if !strings.Contains(entry.Name(), ".") { // the kernel's own files have a dot, and cannot be removed
			err = errors.Join(err, os.RemoveAll(filepath.Join(p.Path(), entry.Name())))
		}
	}
	err = errors.Join(err, p.Close()) // what is open cannot be unmounted
	if err != nil || p.at == mountedByHost {
		return err
	}
	return p.at.do(p.dir, func() error {
		if err := unix.Unmount(p.dir, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: part of another mount
			return fmt.Errorf("unmount %s: %w", p.dir, err)
		}
		if err := os.Remove(p.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

// holderOf names the process that has a file locked, as far as the kernel tells: proc_locks(5).
func holderOf(file *os.File) string {
	var stat unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(int(file.Fd()), &stat) != nil {
		return ""
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(locks)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == inode {
			return " (process " + f[4] + ")"
		}
	}
	return ""
}
