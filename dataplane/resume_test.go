package dataplane

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// A start without input announces only what the former process left in force.
func TestResumeAnnouncesOnlyWhatIsInForce(t *testing.T) {
	block, gone := netip.MustParsePrefix("10.65.0.0/26"), netip.MustParsePrefix("10.66.0.0/26")
	former := calc.BGP{AS: 64512, Peers: map[string]calc.Peer{"tor": {Address: netip.MustParseAddr("192.0.2.1")}}, Paths: map[netip.Prefix]calc.Path{
		block: {Reason: "block"}, gone: {Reason: "block"},
	}, Metric4: 700, NoPools: true}
	// resume leaves a former process's policy and routes, harms them, and starts again.
	resume := func(t *testing.T, harm func(*host, *vm)) (*host, *driver, Resumption, error) {
		h := newHost(t)
		h.uplink()
		vm := h.plug("cali1", "10.65.0.5")
		w := newWorld()
		w.workload(vm)
		w.Routes[block] = calc.Route{Kind: calc.BlockHole}
		d := h.run(w, Options{})
		must(t, d.Close())
		harm(h, vm)
		d = h.start(Options{})
		t.Cleanup(func() { must(t, d.Uninstall()) })
		r, err := d.Resume(Former{BGP: former, Pools: []netip.Prefix{netip.MustParsePrefix("10.68.0.0/16")}})
		return h, d, r, err
	}
	t.Run("all is there", func(t *testing.T) {
		h, d, r, err := resume(t, func(*host, *vm) {})
		if err != nil || len(r.BGP.Paths) != 1 || r.BGP.Paths[block].Reason != "block" || !slices.Equal(r.Missing, []netip.Prefix{gone}) || r.BGP.AS != former.AS {
			t.Errorf("%+v, %v", r, err)
		}
		// Routes of peers come before the input, but not in place of those of the former process.
		d.Learn(News{Changed: announce("10.67.0.0/26", "192.0.2.1")})
		d.Learn(News{Changed: announce("10.68.0.0/26", "192.0.2.1")}) // in a pool to which there are no learned routes
		d.Learn(News{Changed: announce("10.65.0.5/32", "192.0.2.1")})
		d.Learn(News{Changed: announce("10.65.0.0/26", "192.0.2.1")})
		d.Learn(News{Changed: announce("192.0.2.0/30", "192.0.2.1")})
		must(t, d.Apply(calc.Delta{}))
		h.wantLearned("resumed", "10.67.0.0/26 via 192.0.2.1")
		found, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routes.LearnedProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil || len(found) != 1 || found[0].Priority != former.Metric4 {
			t.Errorf("the learned route has not the metric of the former felix: %v, %v", found, err)
		}
		// The complete input has no such block, and nothing has changed on the host.
		d.InSync()
		must(t, d.become(newWorld()))
		h.wantLearned("the input is complete", "10.65.0.0/26 via 192.0.2.1", "10.65.0.5/32 via 192.0.2.1", "10.67.0.0/26 via 192.0.2.1",
			"10.68.0.0/26 via 192.0.2.1", "192.0.2.0/30 via 192.0.2.1")
	})
	t.Run("the datastore is locked when it is read", func(t *testing.T) {
		h, d, _, err := resume(t, func(*host, *vm) {})
		must(t, err)
		d.Learn(News{Changed: announce("192.0.2.0/30", "192.0.2.1")}) // covers a peer of the former process
		must(t, d.Apply(calc.Delta{}))
		h.wantLearned("resumed")
		d.InSync()
		w := newWorld()
		w.Ready = false
		must(t, d.become(w))
		must(t, d.Apply(calc.Delta{})) // the plan is as it will be
		h.wantLearned("locked")
		w.Ready = true
		must(t, d.become(w))
		h.wantLearned("unlocked", "192.0.2.0/30 via 192.0.2.1")
	})
	t.Run("the routes are gone", func(t *testing.T) {
		_, _, r, err := resume(t, func(h *host, _ *vm) {
			all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: netlink.RouteProtocol(routes.Protocol(0))}, netlink.RT_FILTER_PROTOCOL)
			must(h, err)
			for _, r := range all {
				must(h, netlink.RouteDel(&r))
			}
		})
		if err == nil || !strings.Contains(err.Error(), "no route of the former felix is in the kernel") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("the policy is gone", func(t *testing.T) {
		h, d, r, err := resume(t, func(_ *host, vm *vm) {
			vm.detach(bpf.Ingress)
			vm.detach(bpf.Egress)
		})
		if err == nil || !strings.Contains(err.Error(), "the policy of the former felix is not in force on cali1") || len(r.BGP.Paths) != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		d.Learn(News{Changed: announce("10.67.0.0/26", "192.0.2.1"), Complete: true})
		must(t, d.Apply(calc.Delta{}))
		h.wantLearned("not resumed")
	})
}
