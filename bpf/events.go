package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/margay-project/margay/bpf/layout"
)

// EventKind is the occasion of an event.
type EventKind uint8

// The kinds of events.
const (
	EventDrop  = EventKind(layout.EventDrop)
	EventAllow = EventKind(layout.EventAllow) // a new flow, or one judged again
	EventLog   = EventKind(layout.EventLog)   // a Log rule matched
)

// Event is a verdict of which the program tells.
type Event struct {
	Kind     EventKind
	Reason   Reason
	Hook     Hook
	Ifindex  uint32
	Endpoint uint64        // number of the endpoint
	Stage    int           // layout.StageNormalIn and the like
	Rule     uint64        // number of the rule that decided, or of the Log rule
	Time     time.Duration // on the coarse monotonic clock

	Proto              uint8
	Source, Dest       netip.AddrPort // ports are 0 if the protocol has none
	ICMPType, ICMPCode uint8
	Length             uint32 // bytes, from the Ethernet header on
}

// ErrClosed is the error of Next after Close.
var ErrClosed = errors.New("the reader of events is closed")

// Events reads the buffer of events. There may be one reader at a time.
type Events struct {
	ring *ringbuf.Reader
}

// ReadEvents opens the buffer of events. The caller closes it.
func (s *Shared) ReadEvents() (*Events, error) {
	ring, err := ringbuf.NewReader(s.maps["events"])
	if err != nil {
		return nil, explain("open the buffer of events", err)
	}
	return &Events{ring}, nil
}

// Next waits for an event. Its error wraps os.ErrDeadlineExceeded after the deadline, and is ErrClosed after Close.
func (e *Events) Next() (Event, error) {
	record, err := e.ring.Read()
	if errors.Is(err, ringbuf.ErrClosed) {
		return Event{}, ErrClosed
	}
	if err != nil {
		return Event{}, fmt.Errorf("read an event: %w", err)
	}
	var raw layout.Event
	if err := binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &raw); err != nil {
		return Event{}, fmt.Errorf("read an event of %d bytes: %w", len(record.RawSample), err)
	}
	return eventOf(&raw), nil
}

func eventOf(raw *layout.Event) Event {
	p := &raw.Packet
	e := Event{
		Kind: EventKind(raw.Kind), Reason: Reason(raw.Reason), Hook: Hook(raw.Egress), Ifindex: raw.Ifindex,
		Endpoint: raw.Endpoint, Stage: int(raw.Stage), Rule: raw.Rule, Time: time.Duration(raw.Time),
		Proto: p.Proto, ICMPType: p.IcmpType, ICMPCode: p.IcmpCode, Length: p.Length,
	}
	e.Source = endOf(p.Src, p.Sport, p.Proto)
	e.Dest = endOf(p.Dst, p.Dport, p.Proto)
	return e
}

// SetDeadline bounds how long Next waits.
func (e *Events) SetDeadline(t time.Time) { e.ring.SetDeadline(t) }

// Close ends the reading. A Next that waits returns ErrClosed.
func (e *Events) Close() error { return e.ring.Close() }

const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// endOf is one end of a connection. Its port is 0 for ICMP, where the field has the identifier of a query.
func endOf(addr [16]byte, port uint16, proto uint8) netip.AddrPort {
	if proto == protoICMP || proto == protoICMPv6 {
		port = 0
	}
	return netip.AddrPortFrom(AddrOf(addr), hostOrder(port))
}

// hostOrder converts a port between network order and host order.
func hostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
