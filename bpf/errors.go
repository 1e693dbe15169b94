package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// isFull says whether a write failed because a table has no room. An LPM trie returns ENOSPC, a hash E2BIG.
func isFull(err error) bool { return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) }

// IsFull says whether a write failed because a table has no room. It fails again until an entry is deleted or a larger
// generation is built.
func IsFull(err error) bool { return isFull(err) }

// explain wraps an error of the kernel with its likely cause and remedy; nil stays nil.
func explain(doing string, err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) && !errors.As(err, &verifier):
		return fmt.Errorf("%s: not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", doing, err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%s: not enough memory: make the tables smaller or raise the memory limit: %w", doing, err)
	case errors.As(err, &verifier):
		return fmt.Errorf("%s: the kernel's verifier refuses the program; report this with the kernel version: %w", doing, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: this kernel is too old: 6.6 or newer is needed: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
