package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/internal/lab"
)

// block and block6 are the blocks of the pools that the VMs' addresses lie in.
var (
	block  = netip.MustParsePrefix("10.65.0.0/26")
	block6 = netip.MustParsePrefix("fd00:65::/122")
)

// story runs the steps and keeps the score.
type story struct {
	*site
	ctx             context.Context
	checks, misses  int
	latency         time.Duration // median
	slowest         time.Duration
	lostOverRestart int
	passesOn        bool // the router announces to each host the routes of the other
}

func tell(ctx context.Context, l *site) error {
	s := &story{site: l, ctx: ctx}
	for _, step := range []struct {
		title string
		run   func() error
	}{
		{"Start felix on host1, with etcd inside it", s.start},
		{"Apply the fleet: tiers, profile, pools, node, VMs, host endpoint, BGP peers", s.applyFleet},
		{"Apply policy, and see what packets say", s.applyPolicy},
		{"Patch a policy while connections are open", s.patchPolicy},
		{"The fabric's router and the pool", s.disablePool},
		{"Settings and dumps", s.settings},
		{"Kill felix: the kernel goes on judging; start it again: nothing was lost", s.restart},
		{"A second host: VMs of both talk, without a router in between", s.secondHost},
		{"The same with the fabric's router in between", s.betweenRouters},
		{"web moves to host2 while a TCP connection is open", s.move},
	} {
		fmt.Printf("\n=== %s\n", step.title)
		err := step.run()
		if ctx.Err() != nil {
			return errors.New("interrupted; everything is removed")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return s.summary()
}

func (s *story) summary() error {
	fmt.Printf("\n=== Summary\n%d of %d checks were as expected.\n", s.checks-s.misses, s.checks)
	fmt.Printf("A changed policy was in force %s after its write to etcd was sent (slowest of %d: %s).\n", milliseconds(s.latency), rounds, milliseconds(s.slowest))
	fmt.Printf("Packets lost over kill -9 and restart of the agent: %d.\n", s.lostOverRestart)
	if s.misses > 0 {
		return fmt.Errorf("%d checks failed", s.misses)
	}
	return nil
}

// command prints a command as a user would type it, runs it and prints what it said.
func (s *story) command(args ...string) (string, error) {
	fmt.Printf("\n$ margayctl %s\n", quote(args))
	out, err := s.margayctl(args...)
	for _, line := range strings.Split(strings.TrimRight(out, "\n"), "\n") {
		fmt.Println("  " + line)
	}
	if err != nil {
		return out, fmt.Errorf("margayctl %s: %w", quote(args), err)
	}
	return out, nil
}

func quote(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = a
		if strings.ContainsAny(a, " {}\"*") {
			quoted[i] = "'" + a + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// expect sends packets until the verdicts are the expected ones, at most for a few seconds, and prints each.
func (s *story) expect(tries ...try) {
	for _, t := range tries {
		got := t.allowed()
		for deadline := time.Now().Add(5 * time.Second); got != t.want && time.Now().Before(deadline); {
			got = t.allowed()
		}
		s.check(got == t.want, "%-38s %-8s %s", t, map[bool]string{true: "allowed", false: "denied"}[got], t.note)
	}
}

// check counts one expectation and prints it.
func (s *story) check(ok bool, format string, args ...any) {
	mark := "ok  "
	s.checks++
	if !ok {
		s.misses++
		mark = "WRONG"
	}
	fmt.Printf("  %s %s\n", mark, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// eventually polls until the condition holds, at most for the given time.
func (s *story) eventually(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && s.ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

func (s *story) start() error {
	s.web.Echo(80, 5000, 8001, 8005, 9000)
	s.db.Echo(5432)
	s.client.Echo(80, 5353, 9999)
	s.host1.Echo(22, 8080)
	fmt.Printf("\n# on host1:  felix --node-name host1 --embedded-etcd %[1]s/etcd --agent-socket %[1]s/host1.sock --pin-dir %[1]s/bpf-host1\n", s.dir)
	fmt.Printf("# for margayctl:  export %s\n", strings.Join(s.env, " "))
	if err := s.startFelix(s.ctx); err != nil {
		return err
	}
	s.startRouter(s.ctx)
	return nil
}

func (s *story) applyFleet() error {
	fmt.Println("\nBefore: no VM has an endpoint, nothing passes.")
	s.expect(
		try{s.client, webIP, "ping", 0, false, "no endpoint, no route"},
		try{s.web, dbIP, "tcp", 5432, false, ""},
	)
	for _, file := range []string{"tiers", "profile", "ippools", "node", "workloads", "host-endpoint", "bgp-peers"} {
		if _, err := s.command("apply", "-f", "docs/examples/"+file+".yaml"); err != nil {
			return err
		}
	}
	s.check(s.eventually(40*time.Second, func() bool { return s.routed(block) && s.routed(block6) }),
		"the router learned %v and %v from host1", block, block6)
	fmt.Println("\nAfter: VMs may send (profile vm), nothing reaches them; the host is closed but for failsafe ports.")
	s.expect(
		try{s.web, clientIP, "tcp", 80, true, "profile vm allows egress"},
		try{s.web, clientIP6, "tcp", 80, true, ""},
		try{s.batch, clientIP, "udp", 5353, true, ""},
		try{s.client, webIP, "tcp", 80, false, "no profile allows ingress"},
		try{s.client, webIP, "ping", 0, false, ""},
		try{s.client, hostIP, "tcp", 22, true, "failsafe port"},
		try{s.client, hostIP, "tcp", 8080, false, "host endpoint without policy"},
	)
	return nil
}

func (s *story) applyPolicy() error {
	for _, file := range []string{"allow-platform", "web"} {
		if _, err := s.command("apply", "-f", "docs/examples/"+file+".yaml"); err != nil {
			return err
		}
	}
	for file, says := range map[string]string{"block-crypto-mining": "default", "allow-dns-only": "domain"} {
		out, err := s.command("apply", "-f", "docs/examples/"+file+".yaml")
		if err != nil {
			return err
		}
		s.check(strings.Contains(out, says), "applying %s warns of what it does", file)
	}
	s.expect(
		try{s.client, webIP, "ping", 0, true, "allow-ping"},
		try{s.client, webIP6, "ping", 0, true, "allow-ping, IPv6"},
		try{s.client, hostIP, "ping", 0, true, "allow-ping, the host itself"},
		try{s.client, webIP, "tcp", 80, true, "web"},
		try{s.client, webIP6, "tcp", 80, true, "web, IPv6"},
		try{s.client, webIP, "tcp", 8001, true, "web, port range"},
		try{s.client, webIP, "tcp", 8005, false, "web, the Deny before the range"},
		try{s.client, webIP, "tcp", 9000, false, "end of tier default"},
		try{s.client, webIP6, "tcp", 9000, false, "end of tier default, IPv6"},
		try{s.client, webIP, "udp", 5000, true, "web, UDP"},
		try{s.web, dbIP, "tcp", 5432, true, "web to db by labels"},
		try{s.client, dbIP, "tcp", 5432, false, "db allows only role web"},
		try{s.web, clientIP, "tcp", 80, false, "block-crypto-mining makes egress default-deny"},
		try{s.batch, clientIP, "udp", 5353, false, "the domain rule never widens access"},
		try{s.client, hostIP, "tcp", 22, true, "failsafe port"},
		try{s.client, hostIP, "tcp", 8080, false, "end of tier default, host endpoint"},
	)
	out, err := s.command("status")
	s.check(err != nil && strings.Contains(out, "domains"), "status shows the domain rule as waiting, and exits with 1")
	return nil
}

// patchPolicy turns the rules of the policy web into Denies while conversations are open.
func (s *story) patchPolicy() error {
	web := netip.MustParseAddr(webIP)
	conn, err := s.client.Dial("tcp", web, 80)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.check(lab.Answered(conn), "an open TCP connection client -> web:80 works")
	udp := s.client.Stream(web, 5000, 200*time.Microsecond)
	if _, err := s.command("patch", "globalnetworkpolicy", "web", "--type", "json", "-p",
		`[{"op": "replace", "path": "/spec/ingress/1/action", "value": "Deny"}, {"op": "replace", "path": "/spec/ingress/2/action", "value": "Deny"}]`); err != nil {
		return err
	}
	denied := s.eventually(5*time.Second, silent(udp))
	udp.End()
	s.check(denied, "the open UDP conversation client -> web:5000 is cut")
	s.check(!lab.AnsweredAtOnce(conn), "the open TCP connection client -> web:80 is cut")
	s.expect(try{s.client, webIP, "tcp", 80, false, "now a Deny"})
	if _, err := s.command("apply", "-f", "docs/examples/web.yaml"); err != nil {
		return err
	}
	s.expect(
		try{s.client, webIP, "tcp", 80, true, "allowed again"},
		try{s.client, webIP, "udp", 5000, true, "allowed again"},
	)
	return s.measure()
}

// rounds is how often the time of a change is measured.
const rounds = 9

// measure changes the policy web back and forth and takes the time from sending a write to etcd, which is before its
// commit, to the first packet of an open conversation that is judged by it.
func (s *story) measure() error {
	client, err := etcd.Dial(s.ctx, etcd.Config{Endpoints: []string{strings.TrimPrefix(s.env[1], "ETCD_ENDPOINTS=")}})
	if err != nil {
		return err
	}
	store := datastore.New(client)
	defer store.Close()
	var times []time.Duration
	for range rounds {
		took, err := s.measureOnce(store)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	s.latency, s.slowest = times[rounds/2], times[rounds-1]
	fmt.Printf("       %d times measured, from the write to etcd to the first packet judged anew (one every 0.1 ms): median %s, slowest %s\n",
		rounds, milliseconds(s.latency), milliseconds(s.slowest))
	return nil
}

func (s *story) measureOnce(store *datastore.Store) (time.Duration, error) {
	udp := s.client.Stream(netip.MustParseAddr(webIP), 5000, 100*time.Microsecond)
	written, err := s.setWeb(store, api.Deny)
	if err != nil {
		return 0, err
	}
	s.eventually(5*time.Second, silent(udp))
	first, denied := firstUnanswered(udp.End())
	if !denied {
		return 0, errors.New("a written Deny was not in force after 5 s")
	}
	if _, err := s.setWeb(store, api.Allow); err != nil {
		return 0, err
	}
	if again := (try{s.client, webIP, "udp", 5000, true, ""}); !s.eventually(5*time.Second, again.allowed) {
		return 0, errors.New("an Allow was not in force after 5 s")
	}
	return first.Sub(written), nil
}

// silent is the condition that nothing of a stream was answered for a while.
func silent(s *lab.Stream) func() bool { return func() bool { return s.Unanswered() > 100 } }

// setWeb writes the action of the UDP rule of the policy web and says when it began to.
func (s *story) setWeb(store *datastore.Store, action api.Action) (began time.Time, err error) {
	stored, err := store.Get(s.ctx, api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "web"})
	if err != nil {
		return began, err
	}
	stored.(*api.GlobalNetworkPolicy).Spec.Ingress[2].Action = action
	began = time.Now()
	_, err = store.Update(s.ctx, stored)
	return began, err
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

func (s *story) disablePool() error {
	s.check(s.routed(block), "the router has %v", block)
	if _, err := s.command("patch", "ippool", "vms", "-p", `{"spec": {"disabled": true}}`); err != nil {
		return err
	}
	s.check(s.eventually(10*time.Second, func() bool { return !s.routed(block) }), "the router lost %v when its pool was disabled", block)
	s.check(s.routed(block6), "the router still has %v", block6)
	if _, err := s.command("patch", "ippool", "vms", "-p", `{"spec": {"disabled": false}}`); err != nil {
		return err
	}
	s.check(s.eventually(10*time.Second, func() bool { return s.routed(block) }), "the router has %v again", block)
	s.expect(try{s.client, webIP, "tcp", 80, true, ""})
	return nil
}

func (s *story) settings() error {
	for _, args := range [][]string{
		{"get", "felixconfiguration", "default", "-o", "yaml"},
		{"patch", "felixconfiguration", "default", "-p", `{"spec": {"bpfLogLevel": "Debug", "bpfMapSizeConntrack": 65536}}`},
	} {
		if _, err := s.command(args...); err != nil {
			return err
		}
	}
	s.check(s.eventually(10*time.Second, func() bool {
		var status struct {
			Dataplane     struct{ ConnectionsLimit int }
			Configuration map[string]string
		}
		return s.margayctlJSON(&status, "status") == nil && status.Dataplane.ConnectionsLimit == 65536 &&
			strings.HasPrefix(strings.ToLower(status.Configuration["bpfLogLevel"]), "debug")
	}), "status shows the connection table's new size and the log level")
	s.expect(try{s.client, webIP, "tcp", 80, true, ""})
	if _, err := s.command("dump"); err != nil {
		return err
	}
	var dump struct{ Endpoints, Rules, Connections []json.RawMessage }
	err := s.margayctlJSON(&dump, "felix", "ebpf", "dump", "state")
	s.check(err == nil && len(dump.Endpoints) == 4 && len(dump.Rules) > 0 && len(dump.Connections) > 0,
		"margayctl felix ebpf dump state -o json: %d endpoints, %d rules, %d connections",
		len(dump.Endpoints), len(dump.Rules), len(dump.Connections))
	return nil
}

func (s *story) restart() error {
	web := netip.MustParseAddr(webIP)
	udp := s.client.Stream(web, 5000, 2*time.Millisecond)
	conn, err := s.client.Dial("tcp", web, 80)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Printf("\n# on host1:  kill -9 %d\n", s.felix.Process.Pid)
	s.felix.Kill()
	s.expect(
		try{s.client, webIP, "tcp", 80, true, "felix is dead, the kernel judges"},
		try{s.client, webIP, "tcp", 8005, false, "felix is dead, the kernel judges"},
		try{s.client, hostIP, "tcp", 8080, false, "felix is dead, the kernel judges"},
	)
	fmt.Println("\n# on host1:  felix ... (as before)")
	if err := s.startFelix(s.ctx); err != nil {
		return err
	}
	s.expect(
		try{s.client, webIP, "tcp", 80, true, ""},
		try{s.client, webIP, "tcp", 8005, false, ""},
	)
	lab.LetPass(time.Second) // no datagram may be lost
	s.check(lab.Answered(conn), "the TCP connection opened before is still open")
	sent := udp.End()
	s.lostOverRestart = lab.Lost(sent)
	s.check(s.lostOverRestart == 0, "%d of %d packets lost over kill and restart", s.lostOverRestart, len(sent))
	s.check(s.eventually(20*time.Second, func() bool {
		out, _ := s.margayctl("status")
		return strings.Count(out, "degraded: ") == 1 && strings.Contains(out, "domains")
	}), "BGP sessions are back, and nothing is degraded but for the domain rule")
	s.check(s.routed(block) && s.routed(block6), "the router still has the routes")
	_, _ = s.command("status") // it exits with 1 for the domain rule
	return nil
}
