package main

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore/etcd"
)

func TestSessionsWithEtcdComeFromItsEndpoints(t *testing.T) {
	t.Parallel()
	e := newEtcdAddresses(quiet(), etcd.Config{Endpoints: []string{
		"http://10.0.0.1:2379", "https://[fd00::1]:2379/", "https://localhost:12379", "unix:///run/etcd.sock", "10.0.0.2:1", "http://10.0.0.3",
	}})
	session := func(addr string, port uint16) calc.Session {
		return calc.Session{Remote: netip.MustParseAddr(addr), Port: port, Outbound: true, Protocol: 6}
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	want := []calc.Session{session("10.0.0.1", 2379), session("10.0.0.2", 1), session("10.0.0.3", 2379), session("fd00::1", 2379)}
	if diff := cmp.Diff(want, e.sessions(), same); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]endpoint{{"localhost", 12379}}, e.names, cmp.AllowUnexported(endpoint{})); diff != "" {
		t.Error(diff)
	}
	e.add([]netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}, 12379)
	<-e.news
	e.add([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, 12379) // no new address
	e.add(nil, 12379)                                            // a lookup that failed
	select {
	case <-e.news:
		t.Error("a notification without a new address")
	default:
	}
	if diff := cmp.Diff(session("192.0.2.1", 12379), e.sessions()[3], same); diff != "" || len(e.sessions()) != 5 {
		t.Error(diff, e.sessions())
	}
}

func TestHostNamesOfEtcdAreResolved(t *testing.T) {
	t.Parallel()
	e := newEtcdAddresses(quiet(), etcd.Config{Endpoints: []string{"http://localhost:12379"}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.run(ctx) }()
	<-e.news // the hosts file has localhost
	cancel()
	<-ended
	for _, s := range e.sessions() {
		if !s.Remote.IsLoopback() || s.Port != 12379 {
			t.Errorf("%+v", s)
		}
	}
}

func TestSRVRecordsOfEtcdAreResolved(t *testing.T) {
	t.Parallel()
	e := newEtcdAddresses(quiet(), etcd.Config{DiscoverySRV: "example.org"})
	answers := []struct {
		endpoints []string
		err       error
	}{{[]string{"http://localhost:12379"}, nil}, {nil, errors.New("no name server")}, {[]string{"http://localhost:22379"}, nil}}
	e.discover = func(_ context.Context, domain string) ([]string, error) {
		if domain != "example.org" {
			t.Errorf("asks for %s", domain)
		}
		answer := answers[0]
		answers = answers[1:]
		return answer.endpoints, answer.err
	}
	for range len(answers) {
		e.lookUp(t.Context())
	}
	ports := map[uint16]bool{}
	for _, s := range e.sessions() {
		ports[s.Port] = true
	}
	if want := map[uint16]bool{12379: true, 22379: true}; !cmp.Equal(ports, want) {
		t.Errorf("sessions %v", e.sessions())
	}
}
