package bpf

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/margay-project/margay/bpf/layout"
)

// asker is a workload whose questions felix answers.
func (r *rig) asker(ifindex uint32, addrs ...string) {
	r.Helper()
	i := r.workload(ifindex, 5, 0, r.allowAll(), addrs...)
	i.Flags |= layout.IfaceAskAgent
	r.iface(i)
}

func TestQuestionsGoToTheAgentAlone(t *testing.T) {
	r := newRouter(t)
	r.asker(r.v1, alice, alice6)
	questions, err := r.shared.ReadQuestions()
	must(t, err)
	defer questions.Close()
	const gateway = "169.254.1.1"
	for _, c := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"DHCP discovery", udp("0.0.0.0", "255.255.255.255", 68, 67), PassToAgent},
		{"DHCP renewal", udp(alice, gateway, 68, 67), PassToAgent},
		{"DHCP rebinding", udp(alice, "255.255.255.255", 68, 67), PassToAgent},
		{"DHCP to another server", udp(alice, bob, 68, 67), PassPolicy},
		{"DHCP to nobody's server", udp("0.0.0.0", bob, 68, 67), DropDHCP},
		{"DHCP from another's address", udp(carol, gateway, 68, 67), DropSource},
		{"DHCP from the port of a relay", udp(alice, gateway, 67, 67), DropToHost},
		{"DHCPv6", udp("fe80::5", "ff02::1:2", 546, 547), PassToAgent},
		{"DHCPv6 beyond the link", udp("fe80::5", "ff05::1:3", 546, 547), DropDHCP},
		{"DHCPv6 from an address of its own", udp(alice6, "ff02::1:2", 546, 547), DropToHost},
		{"router solicitation", neighbour("fe80::5", "ff02::2", 133, "::", 255), PassToAgent},
		{"router solicitation before it has an address", neighbour("::", "ff02::2", 133, "::", 255), PassToAgent},
		{"router solicitation that was forwarded", neighbour("fe80::5", "ff02::2", 133, "::", 64), DropNeighbour},
		{"neighbour solicitation", neighbour(alice6, "ff02::1:ff00:1", 135, "2001:db8:9::fe", 255), PassNeighbour},
	} {
		r.name = c.name
		o := r.in(r.v1, c.packet)
		r.want(o, c.want)
		if c.want != PassToAgent {
			continue
		}
		if o.Allowed {
			t.Errorf("%s: the packet also goes on", c.name)
		}
		q, err := questions.Next()
		must(t, err)
		if q.Ifindex != int(r.v1) || !bytes.Equal(q.Frame, c.packet) {
			t.Errorf("%s: the agent reads %d bytes of interface %d", c.name, len(q.Frame), q.Ifindex)
		}
	}
	questions.SetDeadline(time.Now())
	if q, err := questions.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a question too many: %+v, %v", q, err)
	}
}

// Without the flag nothing goes to the agent, and a frame that is too long never does.
func TestQuestionsNeedTheFlagAndFit(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, r.allowAll(), alice)
	discovery := udp("0.0.0.0", "255.255.255.255", 68, 67)
	r.want(r.in(r.v1, discovery), DropDHCP)
	r.asker(r.v1, alice)
	r.want(r.in(r.v1, discovery), PassToAgent)
	long := newFrame("0.0.0.0", "255.255.255.255", 17, append(udpHeader(68, 67), make([]byte, layout.QuestionBytes)...))
	r.want(r.in(r.v1, long.bytes()), DropQuestion)
}

// A workload that asks without end does not take the other workload's room, and is answered again later.
func TestAFloodOfQuestionsLeavesRoomForOthers(t *testing.T) {
	r := newRouter(t)
	r.asker(r.v1, alice)
	r.asker(r.v2, bob)
	discovery := udp("0.0.0.0", "255.255.255.255", 68, 67)
	taken := 0
	for range 2000 {
		if r.in(r.v1, discovery).Reason == PassToAgent {
			taken++
		}
	}
	if taken == 0 || taken > 100 {
		t.Errorf("%d of 2000 questions were taken", taken)
	}
	r.want(r.in(r.v2, discovery), PassToAgent)
}
