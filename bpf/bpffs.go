package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MountFS makes dir a bpf file system, in which maps and links can be pinned, unless it is one. It creates the
// directory, and mounts in the mount namespace of this process: OpenPins is for pins that must outlive it.
func MountFS(dir string) error { return mountedHere.mount(dir) }

// CheckFS returns the error that OpenPins would return, as far as that can be known without changing anything.
func CheckFS(dir string) error {
	at, err := findMountPlace(dir)
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

// Pins is a pin directory that outlives this process. It is locked: no other agent uses it at the same time, by
// whatever path and in whatever namespaces.
type Pins struct {
	dir  string
	at   mountPlace
	file *os.File // has the lock; nil: closed
}

// OpenPins mounts a bpf file system on dir, unless one is there that outlives this process, and locks it. The lock ends
// with the process.
func OpenPins(dir string) (*Pins, error) {
	at, err := findMountPlace(dir)
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

// Path is the path by which this process reaches the pins. If they are in the mount namespace of process 1, that is not
// dir.
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

// systemBPFFS is the directory in which other programs pin as well.
const systemBPFFS = "/sys/fs/bpf"

// Remove removes all pins, also those of an agent with other layouts, then the lock, the mount and the directory. In
// the directory of the system it removes only the lock.
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
	err = errors.Join(err, p.Close()) // an open directory cannot be unmounted
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

// holderOf names the process that has locked a file, as far as /proc/locks tells: proc_locks(5).
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
