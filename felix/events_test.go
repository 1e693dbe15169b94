package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/internal/lab"
)

func TestAnEventIsLoggedAsOneLine(t *testing.T) {
	t.Parallel()
	web := calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "shop", Name: "web"}
	tier := calc.RuleID{Policy: calc.PolicyID{Kind: api.KindTier, Name: "default"}, Index: -1}
	rule := calc.RuleID{Policy: calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "web"}, Tier: "default", Index: 2}
	a, b := netip.MustParseAddrPort("198.51.100.10:4242"), netip.MustParseAddrPort("10.65.0.2:9000")
	nobody := netip.MustParseAddrPort("[::]:0")
	six := netip.MustParseAddrPort("[fd00::1]:0")
	for want, e := range map[string]dataplane.Event{
		"drop tcp 198.51.100.10:4242 -> 10.65.0.2:9000 on cali-web (ingress of shop/web): end of tier default": {
			Kind: "drop", Interface: "cali-web", Endpoint: web, Direction: "ingress", Protocol: 6, Source: a, Destination: b, Rule: tier,
			Reason: "no policy allows it", ByPolicy: true},
		"drop udp 198.51.100.10:4242 -> 10.65.0.2:9000 on cali-web (ingress of shop/web): connection no longer allowed, default/web/2": {
			Kind: "drop", Interface: "cali-web", Endpoint: web, Direction: "ingress", Protocol: 17, Source: a, Destination: b, Rule: rule,
			Reason: "connection no longer allowed"},
		"allow icmpv6 128/0 fd00::1 -> fd00::1 on an interface that has gone (egress): default/web/2": {
			Kind: "allow", Direction: "egress", Protocol: 58, Source: six, Destination: six, Rule: rule, ICMPType: 128, ByPolicy: true},
		"drop 47 198.51.100.10 -> 10.65.0.2 on eth0 (ingress): malformed": {
			Kind: "drop", Interface: "eth0", Direction: "ingress", Protocol: 47, Source: a, Destination: b, Reason: "malformed"},
		"drop packet without IP addresses on cali-web (egress): endpoint is closed": {
			Kind: "drop", Interface: "cali-web", Direction: "egress", Source: nobody, Destination: nobody, Reason: "endpoint is closed"},
	} {
		if got := eventLine(e); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAFloodOfEventsIsCountedAndNotLogged(t *testing.T) {
	t.Parallel()
	out := &lab.Output{}
	logger := logrus.New()
	logger.SetOutput(out)
	e := &eventLog{log: logrus.NewEntry(logger)}
	now := time.Now()
	for range 5000 {
		e.note(dataplane.Event{Kind: "drop"}, now)
	}
	e.note(dataplane.Event{Kind: "drop"}, now.Add(time.Second))
	if n := strings.Count(out.String(), "\n"); n != linesPerSecond+2 {
		t.Errorf("%d lines are logged", n)
	}
	if !strings.Contains(out.String(), "4900 more events were not logged") {
		t.Error("the other events are not counted")
	}
}
