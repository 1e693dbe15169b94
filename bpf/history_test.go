package bpf

import (
	"math/rand/v2"
	"testing"
	"time"
)

// history is a router under policies that change, with a simple model of which packets pass.
type history struct {
	*router
	random   *rand.Rand
	reached  [2]bool // may each of the two workloads be reached?
	opens    [2]bool // may it open connections?
	flows    []flowUnderTest
	allowing map[bool]uint32 // masks
}

// flowUnderTest is a connection between two ends, of which one at least is a workload.
type flowUnderTest struct {
	talk
	opener, replier string
}

func newHistory(t *testing.T) *history {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := &history{router: newRouter(t), random: rand.New(rand.NewPCG(seed, 0))}
	for i := range h.shared.Settings.Timeout {
		h.shared.Settings.Timeout[i] = uint64(time.Hour)
	}
	if h.random.IntN(2) == 0 {
		h.shared.Settings.OpeningShare = 0 // nearly all are of the crowd
	}
	h.reached, h.opens = [2]bool{true, true}, [2]bool{true, true}
	h.masks()
	h.apply()
	for _, c := range talks() {
		if c.name == "UDP, unproven" || c.name == "TCP, unproven" {
			continue // they have the ends of others
		}
		for _, ends := range [][2]string{{bob, alice}, {alice6, bob6}, {carol, bob}, {bob6, carol6}, {alice, carol}, {carol6, alice6}} {
			h.flows = append(h.flows, flowUnderTest{c, ends[0], ends[1]})
		}
	}
	for _, f := range h.flows {
		for i, packet := range f.open(f.opener, f.replier) {
			from := []string{f.opener, f.replier}[i%2]
			for _, at := range f.workloads() {
				if o := h.send(packet, from, at); !o.Allowed {
					t.Fatalf("%s from %s to %s does not open: %+v", f.name, f.opener, f.replier, o)
				}
			}
		}
	}
	return h
}

func (h *history) masks() {
	h.allowing = map[bool]uint32{true: h.allowAll(), false: h.denyAll()}
}

func (h *history) apply() {
	h.workload(h.v1, 5, h.allowing[h.reached[0]], h.allowing[h.opens[0]], alice, alice6)
	h.workload(h.v2, 6, h.allowing[h.reached[1]], h.allowing[h.opens[1]], carol, carol6)
	h.shared.AdvanceEpoch()
}

// workloadOf says which workload has the address, -1: none.
func workloadOf(address string) int {
	switch address {
	case alice, alice6:
		return 0
	case carol, carol6:
		return 1
	}
	return -1
}

// workloads are those that the connection comes by.
func (f *flowUnderTest) workloads() (all []int) {
	for _, a := range []string{f.opener, f.replier} {
		if w := workloadOf(a); w >= 0 {
			all = append(all, w)
		}
	}
	return all
}

// send judges a packet at the interface of a workload.
func (h *history) send(packet []byte, from string, at int) Outcome {
	link := []uint32{h.v1, h.v2}[at]
	if workloadOf(from) == at {
		return h.in(link, packet)
	}
	return h.out(link, packet)
}

// allows is the naive rule: policy lets the opener of the connection through at this workload.
func (h *history) allows(f flowUnderTest, at int) bool {
	if workloadOf(f.opener) == at {
		return h.opens[at]
	}
	return h.reached[at]
}

// packet is one of the connection's, and which end sends it.
func (h *history) packet(f flowUnderTest) (packet []byte, from string) {
	if h.random.IntN(2) == 0 {
		return f.question(f.opener, f.replier), f.opener
	}
	return f.answer(f.opener, f.replier), f.replier
}

// check sends a packet of a connection at one of its workloads and compares.
func (h *history) check(f flowUnderTest) {
	h.Helper()
	packet, from := h.packet(f)
	all := f.workloads()
	at := all[h.random.IntN(len(all))]
	if o, want := h.send(packet, from, at), h.allows(f, at); o.Allowed != want {
		h.Fatalf("%s from %s to %s, packet of %s at workload %d: %+v, want allowed %v; reached %v, opens %v",
			f.name, f.opener, f.replier, from, at, o, want, h.reached, h.opens)
	}
}

// renew loads another generation, as is done when the tables of connections get another size.
func (h *history) renew() {
	h.rig = h.next()
	h.masks()
	h.apply()
}

func (h *history) some(n int) {
	h.Helper()
	for range n {
		h.check(h.flows[h.random.IntN(len(h.flows))])
	}
}

// turn changes one of the policies at random.
func (h *history) turn() {
	*[]*bool{&h.reached[0], &h.reached[1], &h.opens[0], &h.opens[1]}[h.random.IntN(4)] = h.random.IntN(2) == 0
	h.apply()
}

// TestConnectionsAreJudgedInTheDirectionInWhichTheyWereOpened lets policies change at random, and the tables of
// connections too: a packet passes if and only if policy lets the opener of its connection through there.
func TestConnectionsAreJudgedInTheDirectionInWhichTheyWereOpened(t *testing.T) {
	const changes, packets = 1000, 20
	h := newHistory(t)
	for n := range changes {
		h.turn()
		h.some(packets)
		if n%100 == 0 {
			_, err := h.Sweep()
			must(t, err)
		}
		switch n {
		case changes / 4:
			must(t, h.shared.ResizeFlows(SharedSizes{Flows: 2048, NewFlows: 2048}))
			h.renew()
		case changes / 2:
			h.shared.DrainFlows()
		case changes * 3 / 4:
			for _, f := range h.flows { // each moves with a packet, also with one that is dropped
				h.check(f)
			}
			must(t, h.shared.DropOldFlows())
			h.renew()
		}
	}
}
