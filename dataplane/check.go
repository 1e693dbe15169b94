package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/dataplane/gate"
)

// Requirement is a property that the host must have, or had better have.
type Requirement struct {
	Name     string
	Optional bool   // the Driver works without it, with the limits that Err names
	Found    string // how the host meets it
	Err      error  // why the host does not meet it, and what to do
}

// Requirements tests the host for all that the Driver needs. It changes nothing.
func Requirements(pinDir string) []Requirement {
	pinDir = Options{PinDir: pinDir}.withDefaults().PinDir
	list := []Requirement{
		kernelRelease(),
		{Name: "capabilities", Optional: true, Found: "all that are needed", Err: checkCapabilities("/proc/self/status")},
	}
	list = append(list, checkPrograms()...)
	return append(list,
		Requirement{Name: "bpf file system", Found: pinDir, Err: bpf.CheckFS(pinDir)},
		fileRequirement("settings of interfaces", "/proc/sys/net", false, "mount proc on /proc"),
		fileRequirement("BTF", "/sys/kernel/btf/vmlinux", false, "boot a kernel with CONFIG_DEBUG_INFO_BTF, which says how the kernel keeps its sockets"),
		compiler("/proc/sys/net/core/bpf_jit_enable"),
		nftables(),
		noForeignAgent(),
	)
}

// Check returns the errors of the requirements that are not optional. The gate is optional: without nftables, the Driver works
// without a gate and reports that as a problem.
func Check(pinDir string) []error {
	var missing []error
	for _, r := range Requirements(pinDir) {
		if r.Err != nil && !r.Optional {
			missing = append(missing, r.Err)
		}
	}
	return missing
}

// oldestKernel is the first release with tcx. Distributions bring features to older ones, so the release alone decides nothing.
const oldestKernel = "6.6"

func kernelRelease() Requirement {
	r := Requirement{Name: "kernel", Optional: true}
	var name unix.Utsname
	if r.Err = unix.Uname(&name); r.Err != nil {
		return r
	}
	release := unix.ByteSliceToString(name.Release[:])
	r.Found = "Linux " + release
	if isOlder(release, oldestKernel) {
		r.Err = fmt.Errorf("release %s is older than %s, for which felix is made: boot a newer kernel", release, oldestKernel)
	}
	return r
}

// isOlder compares the first two numbers of releases.
func isOlder(release, than string) bool {
	var major, minor, wantedMajor, wantedMinor int
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	fmt.Sscanf(than, "%d.%d", &wantedMajor, &wantedMinor)
	return major < wantedMajor || major == wantedMajor && minor < wantedMinor
}

// checkCapabilities looks for the capabilities of this process. The other checks decide whether felix can run; this one explains
// their errors.
func checkCapabilities(status string) error {
	missing, err := missingCapabilities(status, capability{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
		capability{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, capability{"CAP_PERFMON", unix.CAP_PERFMON}, capability{"CAP_BPF", unix.CAP_BPF})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s not given: run as root", strings.Join(missing, ", "))
	}
	return nil
}

type capability struct {
	name string
	bit  int
}

// missingCapabilities returns the names of the capabilities that a process lacks. status is the path of its status file in /proc.
func missingCapabilities(status string, wanted ...capability) (missing []string, err error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	has, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("read the capabilities in %s: %w", status, err)
	}
	for _, c := range wanted {
		if has>>c.bit&1 == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing, nil
}

func fileRequirement(name, path string, optional bool, advice string) Requirement {
	r := Requirement{Name: name, Optional: optional, Found: path}
	if _, err := os.Stat(path); err != nil {
		r.Err = fmt.Errorf("%s: %w: %s", path, errors.Unwrap(err), advice)
	}
	return r
}

// compiler checks that the kernel compiles BPF programs. Only the host's own network namespace has the setting.
func compiler(setting string) Requirement {
	r := Requirement{Name: "BPF compiler", Optional: true, Found: "not switched off"}
	if text, err := os.ReadFile(setting); err == nil && strings.TrimSpace(string(text)) == "0" {
		r.Err = errors.New("off, so that programs are interpreted and slow: sysctl -w net.core.bpf_jit_enable=1")
	}
	return r
}

func nftables() Requirement {
	_, err := gate.Exists()
	return Requirement{Name: "nftables", Optional: true, Found: "answers", Err: err}
}

func noForeignAgent() Requirement {
	r := Requirement{Name: "no other agent", Found: "none runs"}
	if other := foreignAgent("/proc"); other != "" {
		r.Err = fmt.Errorf("%s runs on this host and would fight over its interfaces and routes: stop and disable it first", other)
	}
	return r
}

// checkPrograms loads a program that lets everything pass, and tries to attach it to an interface that does not exist. The
// kernel's error tells whether it knows tcx.
func checkPrograms() []Requirement {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	loaded := Requirement{Name: "BPF programs", Found: "can be loaded", Err: explainPrograms(err)}
	if err != nil {
		return []Requirement{loaded}
	}
	defer program.Close()
	const nowhere = 0x7ffffff0
	l, err := link.AttachTCX(link.TCXOptions{Interface: nowhere, Program: program, Attach: ebpf.AttachTCXIngress})
	attached := Requirement{Name: "tcx", Found: "programs can be attached to interfaces"}
	if err == nil {
		attached.Err = l.Close()
	} else if !errors.Is(err, unix.ENODEV) {
		attached.Err = fmt.Errorf("BPF programs cannot be attached to interfaces: this kernel lacks tcx: Linux 6.6 or newer is needed: %w", err)
	}
	return []Requirement{loaded, attached}
}

func explainPrograms(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("BPF programs: not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("BPF programs: the kernel has none: boot one with CONFIG_BPF_SYSCALL: %w", err)
	}
	return fmt.Errorf("BPF programs: the kernel refuses the simplest one: Linux 6.6 or newer is needed: %w", err)
}

// foreignAgent returns the command line of Calico's agent if it runs on this host: the two would undo each other's work. It is
// empty if none runs.
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

// isForeign recognises calico-felix, and calico-node started with -felix.
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
