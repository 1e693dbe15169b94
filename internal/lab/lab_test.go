package lab_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/internal/lab"
)

// fabric is a host with two VMs, and a client outside.
func fabric(t *testing.T) (host, client *lab.Host, web, db *lab.VM) {
	t.Helper()
	host, client = lab.NewHost(t), lab.NewHost(t)
	lab.Cable(host, "eth0", client, "eth0")
	host.Up("eth0", "192.0.2.10/24", "2001:db8:2::10/64")
	client.Up("eth0", "192.0.2.1/24", "2001:db8:2::1/64")
	host.DefaultRoute("eth0", "192.0.2.1") // the host needs it to answer for the gateway of its VMs
	client.DefaultRoute("eth0", "192.0.2.10")
	client.DefaultRoute("eth0", "2001:db8:2::10")
	host.Forward()
	web, db = host.Plug("cali1", "10.65.0.2", "fd00:65::2"), host.Plug("cali2", "10.65.0.3")
	for _, vm := range []*lab.VM{web, db} {
		host.ProxyARP(vm.Device)
		for _, a := range vm.Addresses {
			host.Route(netip.PrefixFrom(a, a.BitLen()).String(), vm.Device)
		}
	}
	return host, client, web, db
}

func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	_, client, web, db := fabric(t)
	web.Echo(80)
	for _, to := range web.Addresses {
		for _, network := range []string{"tcp", "udp"} {
			if !client.Reaches(network, to, 80) {
				t.Errorf("%s to %v is not answered", network, to)
			}
		}
	}
	if !db.Reaches("tcp", web.Addresses[0], 80) {
		t.Error("a VM does not reach its neighbour")
	}
	if client.ReachesAtOnce("tcp", db.Addresses[0], 80) {
		t.Error("a VM answers on a port without a listener")
	}
	web.Unplug()
	if client.ReachesAtOnce("udp", web.Addresses[0], 80) {
		t.Error("a VM without its interface answers")
	}
}

func TestEnterMovesOnlyTheTestsGoroutine(t *testing.T) {
	before := links(t)
	t.Run("inside", func(t *testing.T) {
		h := lab.Enter(t)
		h.Veth("a", "b")
		if got := links(t); got != "a b lo" {
			t.Errorf("the test sees %s", got)
		}
		var here string
		lab.Here(t).Must(func() error { here = links(t); return nil })
		if here != "a b lo" {
			t.Errorf("Here sees %s", here)
		}
		elsewhere := make(chan string)
		go func() { elsewhere <- links(t) }()
		if got := <-elsewhere; got != before {
			t.Errorf("another goroutine sees %s, not %s", got, before)
		}
	})
	if got := links(t); got != before {
		t.Errorf("after the test there is %s, not %s", got, before)
	}
}

// links returns the names of the interfaces that a goroutine sees.
func links(t *testing.T) string {
	list, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	names := map[string]bool{}
	for _, l := range list {
		names[l.Attrs().Name] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

func TestProgramsRunOnTheirHostAndEndWithTheTest(t *testing.T) {
	t.Parallel()
	var p *lab.Process
	t.Run("inside", func(t *testing.T) {
		h := lab.NewHost(t)
		h.Veth("a", "b")
		if out := h.MustRun("ip", "-brief", "link", "show", "a"); !strings.HasPrefix(out, "a@b") {
			t.Errorf("the program sees %s", out)
		}
		if _, err := h.Run(exec.Command("false")); err == nil {
			t.Error("a failing program returned no error")
		}
		var out lab.Output
		cmd := exec.Command("sh", "-c", "echo ready; exec sleep 1000")
		cmd.Stdout = &out
		p = h.Start(cmd)
		out.AwaitText(t, "ready")
		select {
		case <-p.Ended():
			t.Error("the program ended by itself")
		default:
		}
	})
	if _, err := os.Stat(fmt.Sprint("/proc/", p.Process.Pid)); err == nil {
		t.Error("the program outlives its test")
	}
}

func TestAStreamCountsItsLosses(t *testing.T) {
	t.Parallel()
	host, client, web, _ := fabric(t)
	web.Echo(5000)
	s := client.Stream(web.Addresses[0], 5000, time.Millisecond)
	if lost := lab.Lost(s.End()); lost != 0 {
		t.Errorf("%d packets lost although nothing blocked them", lost)
	}
	s = client.Stream(web.Addresses[0], 5000, time.Millisecond)
	host.Down("cali1")
	lab.Until(t, "losses", func() bool { return s.Unanswered() > 20 })
	sent := s.End()
	if lost := lab.Lost(sent); lost < 20 || lost > len(sent)-5 {
		t.Errorf("%d of %d lost", lost, len(sent))
	}
}

func TestABridgeJoinsHostsAndRoutesAreFollowed(t *testing.T) {
	t.Parallel()
	middle := lab.NewHost(t)
	bridge := middle.Bridge("br0")
	var ends []*lab.Host
	for i, dev := range []string{"one", "two"} {
		end := lab.NewHost(t)
		lab.Cable(middle, dev, end, "eth0")
		middle.Join(dev, bridge)
		middle.Up(dev)
		end.Up("eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		ends = append(ends, end)
	}
	ends[1].Echo(80)
	if !ends[0].Reaches("tcp", netip.MustParseAddr("10.0.0.2"), 80) {
		t.Error("hosts on one bridge do not reach each other")
	}
	changes := ends[0].FollowRoutes(unix.RTPROT_STATIC)
	ends[0].MustRun("ip", "route", "add", "192.0.2.0/24", "via", "10.0.0.2", "proto", "static")
	ends[0].MustRun("ip", "route", "del", "192.0.2.0/24")
	lab.Await(t, func() error {
		got := strings.Join(changes(), "\n")
		if !strings.Contains(got, "add 192.0.2.0/24 via 10.0.0.2") || !strings.Contains(got, "delete 192.0.2.0/24") {
			return fmt.Errorf("the changes of routes are %q", got)
		}
		return nil
	})
}

func TestAWireSendsAndSeesFrames(t *testing.T) {
	t.Parallel()
	a, b := lab.NewHost(t), lab.NewHost(t)
	lab.Cable(a, "eth0", b, "eth0")
	a.Up("eth0")
	near, far := b.Up("eth0").Attrs().HardwareAddr, a.Link("eth0").Attrs().HardwareAddr
	from, to := a.Wire("eth0", near), b.Wire("eth0", far)
	frame := func(text string) []byte {
		return append([]byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, text...)
	}
	from.Send(frame("first"), frame("second"))
	seen := false
	for _, f := range to.Until("second") {
		seen = seen || bytes.Equal(f, append(bytes.Clone(near), frame("first")[6:]...))
	}
	if !seen {
		t.Error("the first frame did not arrive, or not as it was sent")
	}
}
