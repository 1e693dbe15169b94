package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/margay-project/margay/calc"
)

func peerOf(t *testing.T, p calc.Peer, restarting bool) *api.Peer {
	t.Helper()
	s, err := newSession(p)
	if err != nil {
		t.Fatal(err)
	}
	return apiPeer(s, restarting)
}

func plainPeer() *api.Peer {
	return &api.Peer{
		Conf:            &api.PeerConf{NeighborAddress: "10.0.0.9", PeerAsn: 65000},
		Transport:       &api.Transport{RemotePort: 179},
		EbgpMultihop:    &api.EbgpMultihop{Enabled: true, MultihopTtl: 255},
		Timers:          &api.Timers{Config: &api.TimersConfig{ConnectRetry: 5, HoldTime: 90, KeepaliveInterval: 30, IdleHoldTimeAfterReset: 5}},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 120, DeferralTime: 1},
		AfiSafis: []*api.AfiSafi{{
			Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		}},
	}
}

func TestPeerIsTranslatedForGoBGP(t *testing.T) {
	plain := calc.Peer{Address: addr("10.0.0.9"), AS: 65000}
	tests := map[string]struct {
		change func(*calc.Peer)
		want   func(*api.Peer)
	}{
		"plain":   {func(p *calc.Peer) {}, func(p *api.Peer) {}},
		"mapped":  {func(p *calc.Peer) { p.Address = addr("::ffff:10.0.0.9") }, func(p *api.Peer) {}},
		"port":    {func(p *calc.Peer) { p.Port = 1179 }, func(p *api.Peer) { p.Transport.RemotePort = 1179 }},
		"localAS": {func(p *calc.Peer) { p.LocalAS = 64999 }, func(p *api.Peer) { p.Conf.LocalAsn = 64999 }},
		"source":  {func(p *calc.Peer) { p.Source = addr("10.0.0.1") }, func(p *api.Peer) { p.Transport.LocalAddress = "10.0.0.1" }},
		"IPv6": {func(p *calc.Peer) { p.Address = addr("FD00::9") }, func(p *api.Peer) {
			p.Conf.NeighborAddress = "fd00::9"
			p.AfiSafis[0].Config.Family.Afi = api.Family_AFI_IP6
		}},
		"link-local": {func(p *calc.Peer) { p.Address = addr("fe80::9%eth0") }, func(p *api.Peer) {
			p.Conf.NeighborAddress, p.Transport.LocalAddress = "fe80::9%eth0", "::"
			p.AfiSafis = append(p.AfiSafis, proto.Clone(p.AfiSafis[0]).(*api.AfiSafi))
			p.AfiSafis[1].Config.Family.Afi = api.Family_AFI_IP6
		}},
		"one hop of TTL security": {func(p *calc.Peer) { p.TTLSecurity = 1 }, func(p *api.Peer) {
			p.EbgpMultihop, p.TtlSecurity = nil, &api.TtlSecurity{Enabled: true, TtlMin: 255}
		}},
		"most hops of TTL security": {func(p *calc.Peer) { p.TTLSecurity = 255 }, func(p *api.Peer) {
			p.EbgpMultihop, p.TtlSecurity = nil, &api.TtlSecurity{Enabled: true, TtlMin: 1}
		}},
		"restart time, rounded up": {func(p *calc.Peer) { p.RestartTime = 1500 * time.Millisecond }, func(p *api.Peer) { p.GracefulRestart.RestartTime = 2 }},
		"restart time beyond the protocol": {func(p *calc.Peer) { p.RestartTime = 10 * time.Hour }, func(p *api.Peer) {
			p.GracefulRestart.RestartTime = 4095
		}},
		"short keepalive": {func(p *calc.Peer) { p.Keepalive = time.Millisecond }, func(p *api.Peer) {
			p.Timers.Config.KeepaliveInterval, p.Timers.Config.HoldTime = 1, 3
		}},
		"own AS":            {func(p *calc.Peer) { p.AllowOwnAS = 2 }, func(p *api.Peer) { p.Conf.AllowOwnAsn = 2 }},
		"limit of prefixes": {func(p *calc.Peer) { p.MaxPrefixes = 7 }, func(*api.Peer) {}}, // see Speaker.watchLimits
		"long keepalive": {func(p *calc.Peer) { p.Keepalive = time.Minute }, func(p *api.Peer) {
			p.Timers.Config.KeepaliveInterval, p.Timers.Config.HoldTime = 60, 180
		}},
		"endless keepalive": {func(p *calc.Peer) { p.Keepalive = 1000 * time.Hour }, func(p *api.Peer) {
			p.Timers.Config.KeepaliveInterval, p.Timers.Config.HoldTime = 21845, 65535
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, want := plain, plainPeer()
			test.change(&p)
			test.want(want)
			if diff := cmp.Diff(want, peerOf(t, p, false), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	want := plainPeer()
	want.GracefulRestart.LocalRestarting = true
	if diff := cmp.Diff(want, peerOf(t, plain, true), protocmp.Transform()); diff != "" {
		t.Errorf("restarting (-want +got):\n%s", diff)
	}
}

func TestPathIsTranslatedForGoBGP(t *testing.T) {
	got, err := apiPath(prefix("2001:db8::40/122"), []string{"64512:100", "64512:1:4294967295"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := &api.Path{
		Family: &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST},
		Nlri:   pack(t, &api.IPAddressPrefix{Prefix: "2001:db8::40", PrefixLen: 122}),
		Pattrs: []*anypb.Any{
			pack(t, &api.OriginAttribute{}),
			pack(t, &api.NextHopAttribute{NextHop: "::"}),
			pack(t, &api.LocalPrefAttribute{LocalPref: 2147482623}),
			pack(t, &api.CommunitiesAttribute{Communities: []uint32{64512<<16 | 100}}),
			pack(t, &api.LargeCommunitiesAttribute{Communities: []*api.LargeCommunity{{GlobalAdmin: 64512, LocalData1: 1, LocalData2: 4294967295}}}),
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "1", "1:2:3:4", "65536:1", "1:65536", "a:1", "-1:1", "1:2:4294967296", "1: 2"} {
		if _, err := apiPath(prefix("10.0.0.0/26"), []string{bad}, 0); err == nil {
			t.Errorf("community %q was accepted", bad)
		}
	}
	for _, bad := range []string{"10.0.0.1/26", "::ffff:10.0.0.0/122"} {
		if _, err := apiPath(prefix(bad), nil, 0); err == nil {
			t.Errorf("prefix %s was accepted", bad)
		}
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCapabilitiesDecideTheNegotiatedFamilies(t *testing.T) {
	v4 := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	v6 := &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	only4 := []*anypb.Any{pack(t, &api.MultiProtocolCapability{Family: v4}), pack(t, &api.RouteRefreshCapability{})}
	for i, test := range []struct {
		capabilities []*anypb.Any
		family       *api.Family
		want         bool
	}{
		{nil, v4, true}, {nil, v6, false}, {only4, v4, true}, {only4, v6, false},
		{[]*anypb.Any{pack(t, &api.MultiProtocolCapability{Family: v6})}, v4, false},
	} {
		if got := takes(test.capabilities, test.family); got != test.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
}

func TestJournalKeepsTheLastError(t *testing.T) {
	j := newJournal(quiet())
	j.Debug("failed to connect", gobgplog.Fields{"Key": "10.0.0.9", "Error": fmt.Errorf("refused")})
	j.Info("Peer Up", gobgplog.Fields{"Key": "10.0.0.9"})
	j.Warn("received notification", gobgplog.Fields{"Key": "fd00::9", "Code": uint8(2), "Subcode": uint8(2)})
	if got := j.lastError(addr("10.0.0.9")).Text; got != "connect: refused" {
		t.Error(got)
	}
	if got := j.lastError(addr("fd00::9")).Text; !strings.Contains(got, "bad peer AS") {
		t.Error(got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a fatal log entry of GoBGP did not end the process")
		}
	}()
	j.Fatal("code logic bug", nil)
}
