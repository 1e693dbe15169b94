package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
)

// Check tries what the Driver cannot do without and returns what is missing, each with what to do. It changes nothing
// but mounting the bpf file system. The gate is not asked for: where nftables is missing the Driver goes on without it,
// which is one of its problems then.
func Check(pinDir string) []error {
	var missing []error
	note := func(err error) {
		if err != nil {
			missing = append(missing, err)
		}
	}
	note(checkPrograms())
	note(bpf.MountFS(Options{PinDir: pinDir}.withDefaults().PinDir))
	if _, err := os.Stat("/proc/sys/net"); err != nil {
		note(fmt.Errorf("settings of interfaces: /proc/sys is not there: mount proc on /proc: %w", err))
	}
	return missing
}

// checkPrograms loads a program that lets everything pass and tries to attach it where there is no interface: the
// kernel's answer tells whether it knows tcx.
func checkPrograms() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("BPF programs: not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("BPF programs: the kernel has none: boot one with CONFIG_BPF_SYSCALL: %w", err)
	case err != nil:
		return fmt.Errorf("BPF programs: the kernel refuses the simplest one: Linux 6.6 or newer is needed: %w", err)
	}
	defer program.Close()
	const nowhere = 0x7ffffff0
	l, err := link.AttachTCX(link.TCXOptions{Interface: nowhere, Program: program, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("BPF programs cannot be attached to interfaces: this kernel lacks tcx: Linux 6.6 or newer is needed: %w", err)
}

// ForeignAgent returns the command line of Calico's own agent if it runs on this host: the two would undo each other's
// work. Empty when there is none.
func ForeignAgent() string { return foreignAgent("/proc") }

func foreignAgent(proc string) string {
	lines, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	if err != nil {
		return ""
	}
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		if isForeign(args) {
			return strings.Join(args, " ")
		}
	}
	return ""
}

// isForeign recognises calico-felix, and calico-node when it is told to be felix.
func isForeign(args []string) bool {
	switch filepath.Base(args[0]) {
	case "calico-felix":
		return true
	case "calico-node":
		for _, a := range args[1:] {
			if a == "-felix" || a == "--felix" {
				return true
			}
		}
	}
	return false
}
