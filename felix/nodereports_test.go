package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/internal/lab"
)

func nodeStatusObject(name, node string, period uint32) *api.CalicoNodeStatus {
	return &api.CalicoNodeStatus{
		TypeMeta: api.TypeMeta{Kind: api.KindCalicoNodeStatus, APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: name},
		Spec: api.CalicoNodeStatusSpec{Node: node, Classes: []string{"BGP"}, UpdatePeriodSeconds: &period},
	}
}

func TestReportsAreDueOncePerPeriod(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	key := api.Key{Kind: api.KindCalicoNodeStatus, Name: "s"}
	spec := func(period uint32) api.CalicoNodeStatusSpec { return nodeStatusObject("s", "n", period).Spec }
	for _, c := range []struct {
		name   string
		before map[api.Key]report
		period uint32
		last   time.Time // report of a former agent
		want   time.Time
	}{
		{"new", nil, 60, time.Time{}, now},
		{"reported by the former agent", nil, 60, now.Add(-20 * time.Second), now.Add(40 * time.Second)},
		{"known", map[api.Key]report{key: {spec(60), "5", now.Add(7 * time.Second)}}, 60, now, now.Add(7 * time.Second)},
		{"another period", map[api.Key]report{key: {spec(3600), "4", now.Add(time.Hour)}}, 60, now, now},
		{"emptied", map[api.Key]report{key: {spec(60), "4", now.Add(7 * time.Second)}}, 60, time.Time{}, now},
		{"once, emptied", map[api.Key]report{key: {spec(0), "4", time.Time{}}}, 0, time.Time{}, now},
		{"once, new", nil, 0, time.Time{}, now},
		{"once, reported by the former agent", nil, 0, now, time.Time{}},
	} {
		o := *nodeStatusObject("s", "n", c.period)
		o.Status.LastUpdated, o.ResourceVersion = api.Time{Time: c.last}, "5"
		got := schedule(c.before, map[api.Key]api.CalicoNodeStatus{key: o}, now)
		if !got[key].due.Equal(c.want) || len(got) != 1 {
			t.Errorf("%s: due %v, want %v", c.name, got[key].due, c.want)
		}
	}
	if got := schedule(map[api.Key]report{key: {spec(60), "5", now}}, nil, now); len(got) != 0 {
		t.Errorf("a deleted object is still reported: %v", got)
	}
	failure := errors.New("no answer")
	for _, c := range []struct {
		period uint32
		err    error
		want   time.Time
	}{
		{60, nil, now.Add(time.Minute)}, {60, failure, now.Add(time.Minute)}, {1, failure, now.Add(reportAgain)},
		{0, nil, time.Time{}}, {0, failure, now.Add(reportAgain)},
	} {
		if got := afterReport(spec(c.period), c.err, now); !got.Equal(c.want) {
			t.Errorf("period %d, error %v: %v, want %v", c.period, c.err, got, c.want)
		}
	}
}

func TestOnlyObjectsOfThisNodeAreReported(t *testing.T) {
	t.Parallel()
	r := newNodeReports(logrus.NewEntry(logrus.New()), "n1")
	update := func(o *api.CalicoNodeStatus) { r.note(api.Update{Key: api.KeyOf(o), Object: o}) }
	news := func() string {
		select {
		case wanted := <-r.news:
			var names []string
			for key := range maps.Keys(wanted) {
				names = append(names, key.Name)
			}
			slices.Sort(names)
			return strings.Join(names, " ")
		default:
			return "no news"
		}
	}
	expect := func(why, want string) {
		t.Helper()
		if got := news(); got != want {
			t.Errorf("%s: %q, want %q", why, got, want)
		}
	}
	update(nodeStatusObject("foreign", "n2", 1))
	expect("of another node", "no news")
	update(nodeStatusObject("a", "n1", 1))
	update(nodeStatusObject("b", "n1", 1))
	expect("two", "a b")
	reported := nodeStatusObject("a", "n1", 1)
	reported.Status.LastUpdated = api.Time{Time: time.Now()}
	update(reported)
	expect("our own report", "no news")
	update(nodeStatusObject("a", "n1", 1))
	expect("emptied by somebody", "a b")
	update(reported)
	expect("our next report", "no news")
	update(nodeStatusObject("b", "n2", 1))
	expect("given to another node", "a")
	r.note(api.Update{Key: api.KeyOf(reported)})
	expect("deleted", "")
}

// The loop is asked only about routes that the status may have: the first of each family in the order of its texts.
func TestOnlyTheFirstReceivedRoutesAreLookedUp(t *testing.T) {
	t.Parallel()
	var all []bgp.Received
	var routes []api.NodeRoute
	for i := range 2 * mostRoutes {
		for _, prefix := range []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}), 128),
		} {
			all = append(all, bgp.Received{Prefix: prefix})
			routes = append(routes, api.NodeRoute{Destination: prefix.String()})
		}
	}
	want := nodeRoutes(routes)
	var v4, v6 []api.NodeRoute
	for _, r := range firstReceived(all) {
		route := api.NodeRoute{Destination: r.Prefix.String()}
		if r.Prefix.Addr().Is4() {
			v4 = append(v4, route)
		} else {
			v6 = append(v6, route)
		}
	}
	if !slices.Equal(v4, want.RoutesV4) || !slices.Equal(v6, want.RoutesV6) || len(v4) != mostRoutes || len(v6) != mostRoutes {
		t.Errorf("%d and %d routes that differ from those of the status", len(v4), len(v6))
	}
}

// Two objects that fail each with an error of its own do not make each other's news.
func TestAnErrorOfAReportIsLoggedOnceForEachObject(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	r := newNodeReports(logrus.NewEntry(log), "n1")
	for range 3 {
		for _, name := range []string{"a", "b"} {
			r.noteError(context.Background(), api.Key{Kind: api.KindCalicoNodeStatus, Name: name}, errors.New("no answer for "+name))
		}
	}
	if n := strings.Count(out.String(), "cannot be written"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// Felix writes the same status as Calico's agent. It does not write it while the datastore is locked.
func TestCalicoNodeStatusIsFilledIn(t *testing.T) {
	one, two := newRack(t)
	one.apply(`
apiVersion: projectcalico.org/v3
kind: CalicoNodeStatus
metadata: {name: mine}
spec: {node: host1, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1}
---
apiVersion: projectcalico.org/v3
kind: CalicoNodeStatus
metadata: {name: foreign}
spec: {node: host9, classes: [BGP], updatePeriodSeconds: 1}
`)
	f1, f2 := one.start("FELIX_IP=198.51.100.1/24"), two.start("FELIX_IP=198.51.100.2/24")
	one.plug("a", "10.65.0.2")
	two.plug("b", "10.65.0.66")
	read := func(name string) *api.CalicoNodeStatus {
		o, err := one.store.Get(context.Background(), api.Key{Kind: api.KindCalicoNodeStatus, Name: name})
		must(t, err)
		return o.(*api.CalicoNodeStatus)
	}
	var last *api.CalicoNodeStatus
	await := func(sessions int, want ...string) {
		t.Helper()
		lab.Await(t, func() error {
			last = read("mine")
			got := nodeStatusText(last.Status)
			for _, w := range want {
				if !strings.Contains(got, w+"\n") {
					return fmt.Errorf("%q is not in\n%s", w, got)
				}
			}
			if last.Status.BGP.NumberEstablishedV4 != sessions || last.Status.BGP.NumberNotEstablishedV4 != 1-sessions {
				return fmt.Errorf("%+v", last.Status.BGP)
			}
			return nil
		})
	}
	await(1, "birdV4 Ready 198.51.100.1", "birdV6 NotReady ", "198.51.100.2 NodeMesh Established",
		"FIB 10.65.0.64/26 198.51.100.2 rack NodeMesh 198.51.100.2", "FIB 10.65.0.2/32 N/A cali-a Kernel ", "FIB 10.65.0.0/26 N/A blackhole Static ")
	if foreign := read("foreign").Status; !foreign.LastUpdated.IsZero() {
		t.Errorf("the status of another node was written: %+v", foreign)
	}

	for _, why := range []string{"new", "emptied by somebody"} { // a manifest has no status
		one.apply(`{apiVersion: projectcalico.org/v3, kind: CalicoNodeStatus, metadata: {name: once}, spec: {node: host1, classes: [Agent], updatePeriodSeconds: 0}}`)
		lab.Until(t, "a status that is written once: "+why, func() bool { return read("once").Status.Agent.BIRDV4.State == "Ready" })
	}

	lock(t, one.store, true)
	f2.kill()
	f1.await(func(s *agentv1.StatusResponse) error {
		if s.Datastore.Ready || s.Peers[0].State == "established" {
			return fmt.Errorf("ready is %v, the peer is %s", s.Datastore.Ready, s.Peers[0].State)
		}
		return nil
	})
	lab.LetPass(3 * time.Second) // three periods
	if got := read("mine"); got.ResourceVersion != last.ResourceVersion {
		t.Errorf("the status was written while the datastore was locked: %s", nodeStatusText(got.Status))
	}
	lock(t, one.store, false)
	await(0, "birdV4 Ready 198.51.100.1")
}

// nodeStatusText has a line for each agent, session and route.
func nodeStatusText(s api.CalicoNodeStatusStatus) (text string) {
	for name, d := range map[string]api.BGPDaemonStatus{"birdV4": s.Agent.BIRDV4, "birdV6": s.Agent.BIRDV6} {
		text += fmt.Sprintln(name, d.State, d.RouterID)
	}
	for _, p := range append(s.BGP.PeersV4, s.BGP.PeersV6...) {
		text += fmt.Sprintln(p.PeerIP, p.Type, p.State)
	}
	for _, r := range append(s.Routes.RoutesV4, s.Routes.RoutesV6...) {
		text += fmt.Sprintln(r.Type, r.Destination, r.Gateway, r.Interface, r.LearnedFrom.SourceType, r.LearnedFrom.PeerIP)
	}
	return text
}
