package bgp

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp/filter"
)

// GoBGP's import policy judges our own paths too, so one server without any peer can be asked about every rule.
func TestGoBGPJudgesRoutesAsTheFilterPackageDoes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	g := newGoBGP(quiet(), func(event) {}, newLearned())
	g.bgp = gobgp.NewBgpServer(gobgp.LoggerOption(g.journal)) // not the one of the process
	go g.bgp.Serve()
	if err := g.start(global{AS: 64512, RouterID: addr("10.0.0.1"), Port: -1}); err != nil {
		t.Fatal(err)
	}
	decisions := map[string]int{}
	for range 200 {
		rules := randomRules(r)
		policy := []statement{{Marked: true, Unmark: true}, {SetMark: noWayMark}, {NextHops: oracleWays.known(), Unmark: true}}
		for _, rule := range rules {
			policy = append(policy, byWays(rule, nil, oracleWays)...)
		}
		if err := g.setPolicy(imports, append(policy, statement{Action: accept})); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			route := randomRoute(r)
			next := one(r, slices.Collect(maps.Keys(oracleWays))...)
			if route.NoWay = len(oracleWays[next]) == 0; !route.NoWay {
				route.Interface = oracleWays[next][0]
			}
			want := expected(rules, route)
			decisions[want[:6]]++
			if got := askGoBGP(t, g, route, next); got != want {
				t.Fatalf("seed %d: GoBGP judges %+v by %v:\n%s\nwant:\n%s", seed, route, rules, got, want)
			}
		}
	}
	if len(decisions) < 2 {
		t.Errorf("the rules never decide otherwise than %v", decisions)
	}
}

// oracleWays has an interface for each next hop, or none.
var oracleWays = ways{addr("10.9.9.1"): {"eth0"}, addr("10.9.9.2"): {"eth1"}, addr("10.9.9.3"): {"wlan0"}, addr("10.9.9.4"): nil}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomRules(r *rand.Rand) (rules []calc.RouteRule) {
	for range r.IntN(5) {
		rule := calc.RouteRule{Accept: r.IntN(2) == 0, Community: one(r, "", "", "1:2", "1:22", "1:2:3", "1:2:33"),
			ASPath: one(r, nil, nil, []uint32{65001}, []uint32{65001, 65002}, []uint32{650})}
		rule.Interface = one(r, "", "", "", "eth0", "eth*", "*", "none")
		if r.IntN(4) > 0 {
			rule.Within, rule.Outside = one(r, prefix("0.0.0.0/0"), prefix("10.0.0.0/8"), prefix("10.1.0.0/16"), prefix("10.1.2.0/24"), prefix("10.1.2.3/32")), r.IntN(3) == 0
			rule.Shortest = rule.Within.Bits() + r.IntN(33-rule.Within.Bits())
			rule.Longest = one(r, 32, rule.Shortest, rule.Shortest+r.IntN(33-rule.Shortest))
		}
		if rule.Accept {
			rule.Changes = calc.RouteChanges{Priority: one(r, 0, 0, 7, 1024), Prepend: one(r, nil, nil, []uint32{9}, []uint32{8, 9, 9}),
				Communities: one(r, nil, nil, []string{"7:7"}, []string{"7:7", "7:7:7", "6:6:6"})}
		}
		rules = append(rules, rule)
	}
	return rules
}

func randomRoute(r *rand.Rand) filter.Route {
	p, _ := one(r, addr("10.1.2.3"), addr("10.1.2.0"), addr("10.1.0.0"), addr("10.9.0.0"), addr("192.0.2.0")).Prefix(one(r, 0, 8, 9, 16, 17, 24, 26, 31, 32))
	return filter.Route{Prefix: p, ASPath: one(r, nil, []uint32{65001}, []uint32{65001, 65002, 65003}, []uint32{650012}, []uint32{65002, 65001}),
		Communities: one(r, nil, []string{"1:2"}, []string{"1:22", "1:2:3"}, []string{"11:2", "1:2:33"})}
}

// expected returns the right result for a route, as text.
func expected(rules []calc.RouteRule, route filter.Route) string {
	rule, matched := filter.Judge(rules, route)
	if matched && !rule.Accept {
		return "reject"
	}
	preference := uint32(localPref)
	if rule.Changes.Priority != 0 {
		preference = localPreference(rule.Changes.Priority)
	}
	all := slices.Concat(route.Communities, rule.Changes.Communities)
	slices.Sort(all)
	return fmt.Sprint("accept ", slices.Concat(rule.Changes.Prepend, route.ASPath), all, preference)
}

// askGoBGP announces the route, looks at what has become of it in the table, and withdraws it.
func askGoBGP(t *testing.T, g *gobgpServer, route filter.Route, next netip.Addr) string {
	t.Helper()
	ctx := context.Background()
	path, err := apiPath(route.Prefix, route.Communities, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, attribute := range path.Pattrs {
		if attribute.MessageIs(&api.NextHopAttribute{}) {
			path.Pattrs[i] = pack(t, &api.NextHopAttribute{NextHop: next.String()})
		}
	}
	if len(route.ASPath) > 0 {
		path.Pattrs = append(path.Pattrs, pack(t, &api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: route.ASPath}}}))
	}
	if _, err := g.bgp.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: path}); err != nil {
		t.Fatal(err)
	}
	result := "reject"
	err = g.bgp.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: path.Family}, func(d *api.Destination) {
		result = describe(d.GetPaths()[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.deletePath(route.Prefix); err != nil {
		t.Fatal(err)
	}
	return result
}

func describe(path *api.Path) string {
	numbers, all, preference := []uint32{}, []string{}, uint32(0)
	for _, attribute := range path.GetPattrs() {
		m, _ := attribute.UnmarshalNew()
		switch a := m.(type) {
		case *api.AsPathAttribute:
			for _, s := range a.GetSegments() {
				numbers = append(numbers, s.GetNumbers()...)
			}
		case *api.CommunitiesAttribute:
			for _, c := range a.GetCommunities() {
				all = append(all, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
			}
		case *api.LargeCommunitiesAttribute:
			for _, c := range a.GetCommunities() {
				if c.GetGlobalAdmin() != markAdmin { // a mark
					all = append(all, fmt.Sprintf("%d:%d:%d", c.GetGlobalAdmin(), c.GetLocalData1(), c.GetLocalData2()))
				}
			}
		case *api.LocalPrefAttribute:
			preference = a.GetLocalPref()
		}
	}
	slices.Sort(all)
	return strings.TrimSpace(fmt.Sprint("accept ", numbers, all, preference))
}
