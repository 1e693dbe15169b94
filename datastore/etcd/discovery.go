package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Resolver is the part of net.Resolver that discovery needs.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Discover returns the endpoints that the SRV records of a domain name.
func Discover(ctx context.Context, domain string) ([]string, error) {
	return discover(ctx, net.DefaultResolver, domain)
}

// discover returns the endpoints of the etcd of a domain, as etcd's own clients do. If records name servers with TLS, it leaves out the
// others: somebody who can add a record must not be able to read the traffic.
func discover(ctx context.Context, dns Resolver, domain string) ([]string, error) {
	var absent []string
	for _, way := range []struct{ service, scheme string }{{"etcd-client-ssl", "https"}, {"etcd-client", "http"}} {
		_, records, err := dns.LookupSRV(ctx, way.service, "tcp", domain)
		var endpoints []string
		for _, r := range records {
			host := strings.TrimSuffix(r.Target, ".")
			endpoints = append(endpoints, way.scheme+"://"+net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
		var unknown *net.DNSError
		switch {
		case len(endpoints) > 0:
			return endpoints, nil
		case err != nil && !(errors.As(err, &unknown) && unknown.IsNotFound):
			// There may be servers with TLS, so servers without TLS must not be used.
			return nil, fmt.Errorf("look up the etcd of domain %s: %w: check ETCD_DISCOVERY_SRV and the name servers", domain, err)
		}
		absent = append(absent, "_"+way.service+"._tcp."+domain)
	}
	return nil, fmt.Errorf("no etcd found: there is no SRV record %s: check ETCD_DISCOVERY_SRV, or set ETCD_ENDPOINTS instead",
		strings.Join(absent, " or "))
}

// discoverAgain is the time between two lookups of the SRV records.
const discoverAgain = time.Minute

// followRecords updates the endpoints from the SRV records, in a goroutine that Close ends.
func (c *Client) followRecords(dns Resolver) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(discoverAgain)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.discoverAgain(ctx, dns)
			case <-ctx.Done():
				return
			}
		}
	})
	c.close = func() {
		cancel()
		running.Wait()
	}
}

// discoverAgain replaces the endpoints if the SRV records have changed. A connection with TLS never becomes one without.
func (c *Client) discoverAgain(ctx context.Context, dns Resolver) {
	found, err := discover(ctx, dns, c.config.DiscoverySRV)
	if err == nil && !strings.HasPrefix(found[0], "https://") && c.config.secure() {
		err = fmt.Errorf("the SRV records of %s name no servers with TLS any more", c.config.DiscoverySRV)
	}
	if err != nil {
		if log := c.config.Log; log != nil && ctx.Err() == nil {
			log.WithError(err).Warn("the known etcd servers stay in use")
		}
		return
	}
	slices.Sort(found)
	if !slices.Equal(found, slices.Sorted(slices.Values(c.client.Endpoints()))) {
		c.client.SetEndpoints(found...)
	}
}
