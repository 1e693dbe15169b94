package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
)

// Approval is the leg of a connection at one side of this host.
type Approval struct {
	Endpoint uint64    // number of the endpoint
	Rule     uint64    // number of the rule that allowed the connection or, if it is revoked, denies it
	Epoch    uint64    // of the approval; 0 if it is revoked
	Ifindex  uint32    // 0: this side has approved nothing
	Stage    int       // layout.StageNormalIn and the like
	Revoked  bool      // policy does not allow the connection any more
	Packets  [2]uint64 // from the opener, from the replier
	Bytes    [2]uint64
}

// Connection is one entry of the tables of connections.
type Connection struct {
	Key             layout.FlowKey // for DeleteConnection
	Proto           uint8
	Opener, Replier netip.AddrPort // ports are 0 for ICMP
	ICMPType        uint8          // of the query
	ICMPID          uint16         // of the query
	State           int            // layout.FlowTCPOpening and the like
	Proven          bool           // both ends have answered each other
	Answered        bool           // the replier has answered
	Age, Idle       time.Duration  // since the first packet, and since the last one
	Approvals       [2]Approval    // on the opener's side of this host, and on the replier's
}

// Revoked says whether policy does not allow the connection any more: its packets are dropped. The entry stays until it
// is idle, so that neither end opens the connection anew, the other way round.
func (c *Connection) Revoked() bool { return c.Approvals[0].Revoked || c.Approvals[1].Revoked }

// Connections calls yield with each connection that has not expired, until yield returns false. Connections that begin
// or move meanwhile may come twice, or not at all.
func (s *Shared) Connections(yield func(Connection) bool) error {
	now, err := coarseNow()
	if err != nil {
		return err
	}
	one := func(k layout.FlowKey, f layout.Flow) bool {
		idle := now - time.Duration(f.Seen)
		if int(f.State) >= layout.FlowStates || idle > time.Duration(s.Settings.Timeout[f.State]) {
			return true
		}
		return yield(connectionOf(k, f, now))
	}
	for _, set := range []flowSet{s.tables.current, s.tables.old} {
		for _, m := range set.maps() {
			if more, err := eachFlow(m, one); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// legRevoked is the bit in the epoch of a revoked leg.
const legRevoked = uint64(1) << layout.LegRevokedBit

// eachFlow reads a table of connections in batches. A batch must hold a whole bucket of the kernel's hash, so it grows
// on ENOSPC.
func eachFlow(m *ebpf.Map, yield func(layout.FlowKey, layout.Flow) bool) (more bool, err error) {
	size := batch
	var at ebpf.MapBatchCursor
	for {
		keys, flows := make([]layout.FlowKey, size), make([]layout.Flow, size)
		n, err := m.BatchLookup(&at, keys, flows, nil)
		for i := range n {
			if !yield(keys[i], flows[i]) {
				return false, nil
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return true, nil
		}
		if errors.Is(err, unix.ENOSPC) && n == 0 && size < 1<<20 { // one bucket holds more than this
			size *= 2
			continue
		}
		if err != nil {
			return false, fmt.Errorf("read the table of connections: %w", err)
		}
	}
}

// coarseNow reads the clock that the program stamps connections with: bpf_ktime_get_coarse_ns.
func coarseNow() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &t); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

func connectionOf(k layout.FlowKey, f layout.Flow, now time.Duration) Connection {
	low, high := endOf(k.Low, k.LowPort, k.Proto), endOf(k.High, k.HighPort, k.Proto)
	c := Connection{
		Key: k, Proto: k.Proto, Opener: high, Replier: low, State: int(f.State),
		Proven:   f.Flags&uint8(layout.FlowProven) != 0,
		Answered: f.Flags&uint8(layout.FlowAnswered) != 0,
		Age:      now - time.Duration(f.Created),
		Idle:     max(now-time.Duration(f.Seen), 0),
	}
	if f.Flags&uint8(layout.FlowLowOpened) != 0 {
		c.Opener, c.Replier = low, high
	}
	if k.Proto == protoICMP || k.Proto == protoICMPv6 {
		c.ICMPType, c.ICMPID = k.Kind, hostOrder(k.LowPort)
	}
	for i, leg := range f.Legs {
		if leg.Way == uint8(layout.LegNone) {
			continue
		}
		c.Approvals[i] = Approval{
			Endpoint: leg.Endpoint, Rule: leg.Rule, Epoch: leg.Epoch, Ifindex: leg.Ifindex, Stage: int(leg.Stage),
			Packets: leg.Packets, Bytes: leg.Bytes,
		}
		if leg.Epoch&legRevoked != 0 {
			c.Approvals[i].Revoked, c.Approvals[i].Epoch = true, 0
		}
	}
	return c
}

// DeleteConnection deletes a connection from all tables. Its next packet is judged as the first of a connection.
func (s *Shared) DeleteConnection(k layout.FlowKey) error {
	for _, set := range []flowSet{s.tables.current, s.tables.old} {
		for _, m := range set.maps() {
			if err := m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("delete a connection: %w", err)
			}
		}
	}
	return nil
}
