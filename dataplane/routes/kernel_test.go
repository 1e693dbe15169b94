package routes_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
	"github.com/margay-project/margay/internal/lab"
)

// newHost puts the test on a host of its own. All the given interfaces are up.
func newHost(t *testing.T, names ...string) *lab.Host {
	t.Helper()
	h := lab.Enter(t)
	for _, name := range names {
		h.Veth(name, "p"+name)
		h.Up(name)
	}
	return h
}

// routing is a table and the kernel that it programs.
type routing struct {
	t      *testing.T
	kernel *routes.Kernel
	table  *table.Table[netip.Prefix, routes.Route]
	now    time.Time
}

func newRouting(t *testing.T) *routing {
	kernel, err := routes.NewKernel(func(int) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kernel.Close)
	same := func(a, b routes.Route) bool { return a == b }
	return &routing{t: t, kernel: kernel, table: table.New("routes", kernel, same), now: time.Now()}
}

// want plans the routes and makes one pass.
func (r *routing) want(wanted map[string]string, inSync bool) error {
	r.t.Helper()
	local := map[netip.Prefix]calc.Route{}
	for prefix, name := range wanted {
		route := calc.Route{Kind: calc.LocalWorkload, Interface: name}
		if name == "blackhole" {
			route = calc.Route{Kind: calc.BlockHole}
		}
		local[netip.MustParsePrefix(prefix)] = route
	}
	links, err := netlink.LinkList()
	if err != nil {
		r.t.Fatal(err)
	}
	byName := map[string]interfaces.Link{}
	for _, l := range links {
		byName[l.Attrs().Name] = interfaces.Link{Index: l.Attrs().Index, Name: l.Attrs().Name, Up: true}
	}
	plan, _ := routes.Plan(local, byName, nil, 1, 86, func(netip.Prefix) int { return 0 })
	r.table.WantExactly(plan)
	r.now = r.now.Add(time.Minute)
	return r.table.Reconcile(r.now, inSync)
}

// kernelRoutes returns the routes of the main table as text, without the routes that the kernel makes.
func kernelRoutes(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.Protocol == 2 || r.Dst == nil {
				continue
			}
			line := r.Dst.String()
			if r.Type == 6 {
				line += " blackhole"
			} else if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				line += " " + link.Attrs().Name
			}
			lines = append(lines, line+" proto "+r.Protocol.String())
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

const gateway = "169.254.1.1/32 lo proto 86"

func TestWorkloadsAndBlocksAreRouted(t *testing.T) {
	newHost(t, "cali1")
	r := newRouting(t)
	err := r.want(map[string]string{
		"10.65.0.1/32": "cali1", "fd00::1/128": "cali1", "10.65.0.0/26": "blackhole", "fd00::/122": "blackhole", "10.65.9.9/32": "gone",
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"10.65.0.0/26 blackhole proto 86", "10.65.0.1/32 cali1 proto 86", gateway,
		"fd00::/122 blackhole proto 86", "fd00::1/128 cali1 proto 86"}, "\n")
	if got := kernelRoutes(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := r.want(nil, true); err != nil || kernelRoutes(t) != gateway {
		t.Errorf("%v; left\n%s", err, kernelRoutes(t))
	}
}

func TestRoutesOfAnEarlierProcessAreKeptOrRemovedAfterSync(t *testing.T) {
	newHost(t, "cali1", "cali2")
	before := newRouting(t)
	if err := before.want(map[string]string{"10.0.0.1/32": "cali1", "10.0.0.2/32": "cali1", "fd00::2/128": "cali1", "10.0.0.3/32": "cali1"}, true); err != nil {
		t.Fatal(err)
	}
	after := newRouting(t)
	if err := after.want(map[string]string{"10.0.0.1/32": "cali1", "10.0.0.2/32": "cali2", "fd00::2/128": "cali2"}, false); err != nil {
		t.Fatal(err)
	}
	want := "10.0.0.1/32 cali1 proto 86\n10.0.0.2/32 cali2 proto 86\n"
	stale := "10.0.0.3/32 cali1 proto 86\n"
	if got := kernelRoutes(t); got != want+stale+gateway+"\nfd00::2/128 cali2 proto 86" {
		t.Errorf("before sync:\n%s", got)
	}
	if err := after.want(map[string]string{"10.0.0.1/32": "cali1", "10.0.0.2/32": "cali2", "fd00::2/128": "cali2"}, true); err != nil {
		t.Fatal(err)
	}
	if got := kernelRoutes(t); got != want+gateway+"\nfd00::2/128 cali2 proto 86" {
		t.Errorf("after sync:\n%s", got)
	}
}

func TestRoutesOfOtherProgramsAreNeverReplaced(t *testing.T) {
	eth0 := newHost(t, "cali1", "eth0").Link("eth0")
	prefixes := []string{"10.0.0.1/32", "fd00::1/128"}
	for _, prefix := range prefixes {
		dst, _ := netlink.ParseIPNet(prefix)
		stranger := &netlink.Route{Dst: dst, LinkIndex: eth0.Attrs().Index, Protocol: 4}
		if dst.IP.To4() != nil {
			stranger.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteAdd(stranger); err != nil {
			t.Fatal(err)
		}
	}
	r := newRouting(t)
	wanted := map[string]string{"10.0.0.1/32": "cali1", "fd00::1/128": "cali1", "10.0.0.2/32": "cali1"}
	err := r.want(wanted, true)
	if !errors.Is(err, routes.ErrConflict) {
		t.Errorf("err %v", err)
	}
	want := "10.0.0.1/32 eth0 proto static\n10.0.0.2/32 cali1 proto 86\n" + gateway + "\nfd00::1/128 eth0 proto static"
	if got := kernelRoutes(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := r.want(nil, true); err != nil {
		t.Error("error of a route that was never made:", err)
	}
	if got := kernelRoutes(t); got != "10.0.0.1/32 eth0 proto static\n"+gateway+"\nfd00::1/128 eth0 proto static" {
		t.Errorf("the foreign route was removed together with ours:\n%s", got)
	}
	for _, prefix := range prefixes {
		dst, _ := netlink.ParseIPNet(prefix)
		if err := netlink.RouteDel(&netlink.Route{Dst: dst, Scope: netlink.SCOPE_NOWHERE}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.want(wanted, true); err != nil {
		t.Error("error after the foreign route was removed:", err)
	}
}

func TestRoutesComeBackAfterTheInterfaceWasDown(t *testing.T) {
	h := newHost(t, "cali1")
	r := newRouting(t)
	wanted := map[string]string{"10.0.0.1/32": "cali1", "fd00::1/128": "cali1"}
	if err := r.want(wanted, true); err != nil {
		t.Fatal(err)
	}
	h.Down("cali1")
	h.Up("cali1")
	r.table.Rewrite(netip.MustParsePrefix("10.0.0.1/32"))
	r.table.Rewrite(netip.MustParsePrefix("fd00::1/128"))
	if err := r.want(wanted, true); err != nil {
		t.Fatal(err)
	}
	if got := kernelRoutes(t); got != "10.0.0.1/32 cali1 proto 86\n"+gateway+"\nfd00::1/128 cali1 proto 86" {
		t.Errorf("got\n%s", got)
	}
}

func TestReservedRouteProtocolNumbersAreNotUsed(t *testing.T) {
	for configured, want := range map[int]int{0: 86, 2: 86, 3: 86, 4: 86, 80: 80, 256: 86} {
		if got := routes.Protocol(configured); got != want {
			t.Errorf("Protocol(%d) = %d, want %d", configured, got, want)
		}
	}
}

func add(t *testing.T, h *lab.Host, prefix, name string, protocol netlink.RouteProtocol, metric int) {
	t.Helper()
	dst, err := netlink.ParseIPNet(prefix)
	if err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{Dst: dst, Protocol: protocol, Priority: metric, LinkIndex: h.Link(name).Attrs().Index}
	if dst.IP.To4() != nil {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(prefix, name, err)
	}
}

func TestTwoOfOurRoutesToOneAddressBecomeOne(t *testing.T) {
	h := newHost(t, "cali1", "cali2")
	for _, prefix := range []string{"10.0.0.1/32", "fd00::1/128"} {
		add(t, h, prefix, "cali1", 86, 1024)
		add(t, h, prefix, "cali2", 86, 5)
	}
	r := newRouting(t)
	if err := r.want(map[string]string{"10.0.0.1/32": "cali1", "fd00::1/128": "cali1"}, true); err != nil {
		t.Fatal(err)
	}
	if got := kernelRoutes(t); got != "10.0.0.1/32 cali1 proto 86\n"+gateway+"\nfd00::1/128 cali1 proto 86" {
		t.Errorf("got\n%s", got)
	}
}

// Our route to the address exists, but a lookup of the address does not find it: a foreign route has a better metric, or a
// rule sends the lookup to another table.
func TestOurRouteIsReplacedWhereALookupDoesNotFindIt(t *testing.T) {
	h := newHost(t, "cali1", "cali2", "eth0")
	rule := netlink.NewRule()
	rule.Table, rule.Priority = 100, 10
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	eth0 := h.Link("eth0").Attrs().Index
	dst, _ := netlink.ParseIPNet("0.0.0.0/0")
	if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Table: 100, LinkIndex: eth0, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	add(t, h, "fd00::1/128", "eth0", 4, 5)
	r := newRouting(t)
	if err := r.want(map[string]string{"10.0.0.1/32": "cali1", "fd00::1/128": "cali1"}, true); err != nil {
		t.Fatal(err)
	}
	if err := r.want(map[string]string{"10.0.0.1/32": "cali2", "fd00::1/128": "cali2"}, true); err != nil {
		t.Fatal(err)
	}
	want := "10.0.0.1/32 cali2 proto 86\n" + gateway + "\nfd00::1/128 cali2 proto 86\nfd00::1/128 eth0 proto static"
	if got := kernelRoutes(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
