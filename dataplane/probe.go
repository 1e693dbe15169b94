package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier"
)

// probe asks a twin of a new generation's program, in the kernel, about packets. It writes the entry of the loopback interface,
// which no other program reads: nothing is attached there.
type probe struct {
	g    *generation
	twin *bpf.Generation
}

const (
	loopback  = 1
	elsewhere = 0x7ffffff0 // index of the interface from which a forwarded packet came; no such interface exists
)

func (g *generation) probe() (*probe, error) {
	twin, err := g.Generation.Twin()
	if err != nil {
		return nil, err
	}
	return &probe{g, twin}, nil
}

func (p *probe) close() error {
	return errors.Join(p.g.Interfaces.Delete(loopback), p.twin.Close())
}

// situation is the hook, interface and entry with which the program judges a packet at a certain stage.
type situation struct {
	hook  bpf.Hook
	inner uint32
	entry layout.Iface
}

// situationOf returns false for a stage that the program does not have, or reaches only after a look into the routing table.
func situationOf(id calc.EndpointID, stage calc.Stage, dir calc.Direction, mask uint32) (situation, bool) {
	at := situation{entry: layout.Iface{Endpoint: id.Hash(), Ifindex: loopback}}
	number, exists := classifier.KernelStage(stage, dir)
	if !exists {
		return at, false
	}
	at.entry.Mask[number] = mask
	workload := id.Kind != api.KindHostEndpoint
	switch {
	case workload:
		at.entry.Flags = layout.IfaceWorkload | layout.IfaceToHost | layout.IfaceAllowIPIP | layout.IfaceAllowVXLAN
		if dir == calc.Ingress {
			at.hook, at.inner = bpf.Egress, elsewhere
		}
	case stage == calc.Forward && dir == calc.Ingress:
		return at, false
	case stage == calc.Normal && dir == calc.Ingress:
		at.entry.Mask[layout.StageForwardIn] = mask // the same mask at both stages, so the routing table makes no difference
	case dir == calc.Egress:
		at.hook = bpf.Egress
		if stage == calc.Forward {
			at.inner = elsewhere
		}
	}
	return at, true
}

// ask compares the program's verdict with the wanted one.
func (p *probe) ask(id calc.EndpointID, stage calc.Stage, dir calc.Direction, mask uint32, packet calc.Packet, want calc.Verdict) error {
	at, ok := situationOf(id, stage, dir, mask)
	if !ok || decidedBefore(packet) {
		return nil
	}
	own := layout.SourceKey{Ifindex: loopback, Addr: bpf.Address(packet.Source)}
	if err := errors.Join(p.g.Interfaces.Put(loopback, at.entry), p.g.Sources.Put(own, 1)); err != nil {
		return err
	}
	got, err := p.twin.Run(bpf.Run{Hook: at.hook, Ifindex: loopback, Inner: at.inner, Packet: frame(packet)})
	if err = errors.Join(err, p.g.Sources.Delete(own)); err != nil {
		return err
	}
	rule := uint64(0)
	if want.Action != "" {
		rule = want.Rule.Hash()
	}
	if got.Allowed == (want.Action == api.Deny) || got.Rule != rule {
		return fmt.Errorf("verify: the program says %v by rule %x, the policy of %s says %q by %s (%v, %+v): report this",
			got.Reason, got.Rule, id.Name, want.Action, want.Rule, stage, packet)
	}
	return nil
}

// decidedBefore says that the program may decide about the packet before policy does: by its headers or its addresses.
func decidedBefore(p calc.Packet) bool {
	switch p.Protocol {
	case 0, 43, 44, 51, 60, 58, 1:
		return true
	}
	return !p.Source.IsValid() || p.Source.IsUnspecified() || p.Source.IsMulticast() || p.Source.IsLoopback()
}

// frame makes the bytes of a packet, with all that a rule can match.
func frame(p calc.Packet) []byte {
	const payload = 20
	ethernet := make([]byte, 14, 14+40+payload)
	body := make([]byte, payload)
	if p.Protocol == 6 {
		body[12], body[13] = 5<<4, 2 // a SYN without options
	}
	if calc.HasPorts(p.Protocol) {
		binary.BigEndian.PutUint16(body, p.SourcePort)
		binary.BigEndian.PutUint16(body[2:], p.DestinationPort)
	}
	header := header4(p, payload)
	binary.BigEndian.PutUint16(ethernet[12:], 0x0800)
	if p.Source.Is6() {
		header = header6(p, payload)
		binary.BigEndian.PutUint16(ethernet[12:], 0x86dd)
	}
	return append(append(ethernet, header...), body...)
}

func header4(p calc.Packet, payload uint16) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, p.Protocol
	binary.BigEndian.PutUint16(h[2:], 20+payload)
	copyAddress(h[12:16], p.Source)
	copyAddress(h[16:20], p.Destination)
	return h
}

func header6(p calc.Packet, payload uint16) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, p.Protocol, 64
	binary.BigEndian.PutUint16(h[4:], payload)
	copyAddress(h[8:24], p.Source)
	copyAddress(h[24:40], p.Destination)
	return h
}

func copyAddress(to []byte, a netip.Addr) { copy(to, a.AsSlice()) }
