package main

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore/etcd"
)

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolICMPv6 = 58
)

// etcdAddresses knows the addresses of etcd, so no policy of this host can cut felix off from it. Names of endpoints, and the SRV
// records of a domain, are looked up every minute. An address that was found stays, because a session may still use it.
type etcdAddresses struct {
	log    *logrus.Entry
	names  []endpoint
	domain string        // of SRV records; empty for none
	news   chan struct{} // there are more addresses

	discover func(ctx context.Context, domain string) (endpoints []string, err error)

	mu    sync.Mutex
	known map[netip.AddrPort]struct{}
}

type endpoint struct {
	host string
	port uint16
}

const (
	lookUpAgain = time.Minute
	etcdPort    = 2379
)

func newEtcdAddresses(log *logrus.Entry, c etcd.Config) *etcdAddresses {
	e := &etcdAddresses{
		log: log, domain: c.DiscoverySRV, discover: etcd.Discover,
		news: make(chan struct{}, 1), known: map[netip.AddrPort]struct{}{},
	}
	e.names = e.noteLiteral(c.Endpoints)
	return e
}

// noteLiteral keeps the endpoints that are addresses, and returns those that are names.
func (e *etcdAddresses) noteLiteral(endpoints []string) (names []endpoint) {
	for _, text := range endpoints {
		at, ok := parseEndpoint(text)
		if !ok {
			continue // no policy concerns a unix socket
		}
		if addr, err := netip.ParseAddr(at.host); err == nil {
			e.add([]netip.Addr{addr}, at.port)
		} else {
			names = append(names, at)
		}
	}
	return names
}

// parseEndpoint reads http://HOST:PORT, with or without the scheme and the port.
func parseEndpoint(text string) (at endpoint, ok bool) {
	scheme, rest, given := strings.Cut(text, "://")
	if !given {
		rest = text
	} else if scheme == "unix" {
		return at, false
	}
	rest, _, _ = strings.Cut(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return endpoint{strings.Trim(rest, "[]"), etcdPort}, rest != ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return endpoint{host, uint16(n)}, err == nil
}

// run looks up the names until ctx ends.
func (e *etcdAddresses) run(ctx context.Context) {
	if len(e.names) == 0 && e.domain == "" {
		return
	}
	tick := time.NewTicker(lookUpAgain)
	defer tick.Stop()
	for {
		e.lookUp(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *etcdAddresses) lookUp(ctx context.Context) {
	names := e.names
	if e.domain != "" {
		endpoints, err := e.discover(ctx, e.domain)
		e.note(ctx, err)
		names = e.noteLiteral(endpoints)
	}
	for _, name := range names {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name.host)
		e.note(ctx, err)
		e.add(found, name.port)
	}
}

func (e *etcdAddresses) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		e.log.WithError(err).Debug("the name of an etcd endpoint cannot be looked up; its former addresses stay open")
	}
}

func (e *etcdAddresses) add(found []netip.Addr, port uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := len(e.known)
	for _, addr := range found {
		e.known[netip.AddrPortFrom(addr.Unmap(), port)] = struct{}{}
	}
	if len(e.known) == before {
		return
	}
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// addresses returns the addresses of etcd, sorted.
func (e *etcdAddresses) addresses() (list []netip.Addr) {
	for _, s := range e.sessions() {
		list = append(list, s.Remote)
	}
	return slices.Compact(list)
}

// sessions returns felix's own connections to etcd, by exact address and port, sorted.
func (e *etcdAddresses) sessions() (list []calc.Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for at := range e.known {
		list = append(list, calc.Session{Remote: at.Addr(), Port: at.Port(), Outbound: true, Protocol: protocolTCP})
	}
	slices.SortFunc(list, func(a, b calc.Session) int {
		return cmp.Or(a.Remote.Compare(b.Remote), cmp.Compare(a.Port, b.Port))
	})
	return list
}
