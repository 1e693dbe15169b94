package bpf

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/margay-project/margay/bpf/layout"
)

// mutate changes some bytes of a packet, and perhaps its length, but not its Ethernet type.
func mutate(r *rand.Rand, packet []byte) []byte {
	b := append([]byte(nil), packet...)
	for range 1 + r.IntN(6) {
		at := 14 + r.IntN(len(b)-14)
		b[at] = byte(r.UintN(256))
	}
	if r.IntN(3) == 0 && len(b) > 60 {
		b = b[:54+r.IntN(len(b)-54)]
	}
	return b
}

func samples() [][]byte {
	first, later := fragments(3)
	first6, later6 := fragments6(3)
	chain := newFrame(alice6, bob6, 17, udpHeader(9, 80))
	chain.first, chain.headers = 60, extensions(5, 17)
	return [][]byte{
		udp(alice, bob, 9, 53), udp(alice6, bob6, 9, 53), tcp(alice, bob, 9, 80, "S", 1, 0), tcp(alice6, bob6, 9, 80, "A", 1, 0),
		echo(alice, bob, false, 1), echo(alice6, bob6, false, 1), arp(alice, carol), first, later, first6, later6, chain.bytes(),
		neighbour(alice6, "ff02::1:ff00:1", 135, "2001:db8:9::fe", 255), unreachable(alice, bob, udp(bob, alice, 1, 2)),
		unreachable(alice6, bob6, udp(bob6, alice6, 1, 2)),
	}
}

// TestRandomBytesDoNotPassADenyAllPolicy throws altered and random packets at interfaces that deny everything.
func TestRandomBytesDoNotPassADenyAllPolicy(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	rig := newRouter(t)
	deny := rig.denyAll()
	rig.workload(rig.v1, 5, deny, deny, alice, alice6)
	rig.host(rig.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: deny, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
	all := samples()
	judged := 0
	for range 30_000 {
		packet := mutate(r, all[r.IntN(len(all))])
		if r.IntN(8) == 0 {
			packet = make([]byte, 60+r.IntN(100))
			for i := range packet {
				packet[i] = byte(r.UintN(256))
			}
		}
		run := Run{Hook: Hook(r.IntN(2)), Ifindex: rig.v1, Inner: 77, Packet: packet}
		if r.IntN(2) == 0 {
			run.Ifindex = rig.up
		}
		o, err := rig.Run(run)
		if err != nil {
			continue // the kernel itself refuses to run a packet shorter than its header says
		}
		judged++
		if o.Allowed && o.Reason != PassNeighbour && (o.Reason != PassNotIP || run.Ifindex == rig.v1) {
			t.Fatalf("seed %d: %+v for %x at %+v", seed, o, packet, run)
		}
	}
	if judged < 20_000 {
		t.Errorf("only %d packets were judged", judged)
	}
	if n := len(rig.connections()); n != 0 {
		t.Errorf("%d connections out of nothing", n)
	}
}
