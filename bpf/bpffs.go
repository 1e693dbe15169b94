package bpf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MountFS makes sure that dir is a bpf file system, in which maps and links can be pinned. It creates the directory
// and mounts where needed.
func MountFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the pin directory: %w", err)
	}
	if isBPFFS(dir) {
		return nil
	}
	err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
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
