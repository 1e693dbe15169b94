package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// hostPIDs is the PID namespace of the host: PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h.
const hostPIDs = "pid:[4026531836]"

// onlyOnHost is a setting that exists only in the network namespace of the host: see the kernel's
// net/core/sysctl_net_core.c.
const onlyOnHost = "/proc/sys/net/core/bpf_jit_enable"

// mountPlace says how this process reaches a bpf file system that outlives it.
//
// Pins last as long as the file system is mounted somewhere. A mount lasts as long as its mount namespace, and that
// lasts as long as the processes in it. A service manager or a container may give the agent a namespace that ends with
// the agent; then all links and connections would end too, and nothing would be under policy. So the file system must
// be mounted where process 1 sees it.
type mountPlace int

const (
	mountedHere    mountPlace = iota // where this process mounts, process 1 sees it
	mountedByFirst                   // process 1 has another mount namespace, and does not see mounts of this process
	mountedByHost                    // process 1 is not the host's, and may end before the programs do: only the host can mount
)

// findMountPlace finds out where a bpf file system for dir is mounted, or must be.
func findMountPlace(dir string) (mountPlace, error) {
	p, err := mountPlaceOf(dir)
	if err != nil {
		return p, fmt.Errorf("find out whether programs outlive felix: %w: run it as root, with proc mounted on /proc and without hidepid=", err)
	}
	return p, nil
}

func mountPlaceOf(dir string) (mountPlace, error) {
	pids, err := os.Readlink("/proc/thread-self/ns/pid")
	if err != nil {
		return 0, err
	}
	if pids != hostPIDs && (os.Getpid() == 1 || exists(onlyOnHost)) {
		return mountedByHost, nil
	}
	mine, err := mountsOf("thread-self")
	if err != nil {
		return 0, err
	}
	first, err := mountsOf("1")
	if err != nil {
		return 0, err
	}
	if mine.shares(first) {
		return mountedHere, nil
	}
	var stat unix.Stat_t
	if isBPFFS(nearestExisting(dir)) {
		if err := unix.Stat(nearestExisting(dir), &stat); err != nil {
			return 0, err
		}
		if first.has(stat.Dev) {
			return mountedHere, nil
		}
	}
	return mountedByFirst, nil
}

// mounts are the mounts that a process sees: the device of each, by the number of the mount. These numbers are unique
// on the host, whatever the namespace.
type mounts map[string]string

// mountsOf reads /proc/PID/mountinfo, which may be readable where /proc/PID/ns is not: proc_pid_mountinfo(5).
func mountsOf(pid string) (mounts, error) {
	text, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	m := mounts{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 {
			m[f[0]] = f[2]
		}
	}
	return m, nil
}

// shares says whether two processes are in the same mount namespace: they then see the same mounts.
func (m mounts) shares(o mounts) bool {
	for number := range m {
		if _, both := o[number]; both {
			return true
		}
	}
	return false
}

// has says whether the file system of a device is mounted, by whatever path.
func (m mounts) has(device uint64) bool {
	wanted := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	for _, d := range m {
		if d == wanted {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// inMountsOfFirst calls do in the mount namespace of process 1, on a thread that ends afterwards.
func inMountsOfFirst(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- enterMountsOfFirst(do)
	}()
	return <-done
}

func enterMountsOfFirst(do func() error) error {
	ns, err := openMountsOfFirst()
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads share their root and working directory
		return fmt.Errorf("unshare the root directory: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("setns to the mount namespace of process 1: %w", err)
	}
	return do()
}

// openMountsOfFirst opens the mount namespace of process 1. If that process is hidden, it opens that of thread 2 of the
// kernel, which is the same.
func openMountsOfFirst() (*os.File, error) {
	ns, err := os.Open("/proc/1/ns/mnt")
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return ns, err
	}
	first, err1 := mountsOf("1")
	second, err2 := mountsOf("2")
	if err1 != nil || err2 != nil || !first.shares(second) {
		return nil, err
	}
	return os.Open("/proc/2/ns/mnt")
}

// do calls a function in the mount namespace where the pin directory lasts.
func (p mountPlace) do(dir string, f func() error) error {
	if p != mountedByFirst {
		return f()
	}
	if err := inMountsOfFirst(f); err != nil {
		return fmt.Errorf("felix has a mount namespace of its own, in which its programs would end with it, and cannot use that of process 1: %w: "+
			"run it without one (no unshare -m, no PrivateTmp= or ProtectSystem= and the like in its unit), or mount a bpf file system on %s before it starts", err, dir)
	}
	return nil
}

// mount makes dir a bpf file system at this place, unless it is one. It creates the directory.
func (p mountPlace) mount(dir string) error {
	if p == mountedByHost && !isBPFFS(nearestExisting(dir)) {
		return inContainer(dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the pin directory: %w", err)
	}
	if isBPFFS(dir) {
		return nil
	}
	return explainMount(dir, unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"))
}

// check returns the error that mount would return, as far as that can be known without changing anything.
func (p mountPlace) check(dir string) error {
	if isBPFFS(nearestExisting(dir)) {
		return nil
	}
	if p == mountedByHost {
		return inContainer(dir)
	}
	fs, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err == nil {
		defer unix.Close(fs)
		err = unix.FsconfigCreate(fs)
	}
	return explainMount(dir, err)
}

// inContainer is the error for a mount that would end with the container.
func inContainer(dir string) error {
	return fmt.Errorf("felix is in a container with process IDs of its own: a bpf file system that it mounts on %s may end with it, and then nothing is under policy: "+
		"start the container with the process IDs of the host (--pid=host), or mount a bpf file system of the host on %s (--volume /sys/fs/bpf:/sys/fs/bpf, --pin-dir /sys/fs/bpf/margay)", dir, dir)
}

// nearestExisting returns the path, or the first directory above it that exists.
func nearestExisting(path string) string {
	for path = filepath.Clean(path); !exists(path) && path != filepath.Dir(path); {
		path = filepath.Dir(path)
	}
	return path
}
