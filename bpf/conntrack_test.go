package bpf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -tags linux -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" conntrack conntrack.c

// makeRoom lets the kernel track n connections in as many hash buckets, until the benchmark is over. Call it in the
// machine's first network namespace: it is one table for all of them.
func makeRoom(n int) (restore func() error, err error) {
	type setting struct{ path, was string }
	var changed []setting
	restore = func() (err error) {
		for _, s := range changed {
			err = errors.Join(err, os.WriteFile(s.path, []byte(s.was), 0o644))
		}
		return err
	}
	for _, name := range []string{"buckets", "max"} {
		path := "/proc/sys/net/netfilter/nf_conntrack_" + name
		was, err := os.ReadFile(path)
		if err != nil {
			return restore, fmt.Errorf("read how much the kernel tracks: %w", err)
		}
		if has, err := strconv.Atoi(strings.TrimSpace(string(was))); err == nil && has >= n {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(n)), 0o644); err != nil {
			return restore, fmt.Errorf("make the kernel track more: %w", err)
		}
		changed = append(changed, setting{path, string(was)})
	}
	return restore, nil
}

// peer is nf_conntrack with the connections of a rotator.
type peer struct {
	conntrackObjects
}

// newPeer makes the kernel track the connections that the rotator goes through.
func newPeer(b *testing.B, r *rotator, n int) (*peer, error) {
	b.Helper()
	p := &peer{}
	if err := loadConntrackObjects(&p.conntrackObjects, nil); err != nil {
		return nil, fmt.Errorf("load a program that asks nf_conntrack: %w", err)
	}
	b.Cleanup(func() { must(b, p.Close()) })
	r.to(b, p.ConntrackAdd)
	r.mean(b, n)
	r.to(b, p.ConntrackFind)
	for _, r.turn.Next = range []uint32{0, uint32(n) - 1} {
		code, err := r.Rotate.Run(&ebpf.RunOptions{Data: r.packet})
		must(b, err)
		if int32(code) != tcxNext {
			return nil, errors.New("nf_conntrack does not know the connections it was given")
		}
	}
	return p, nil
}
