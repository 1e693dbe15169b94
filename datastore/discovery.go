package datastore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// resolver is net.Resolver, as far as it is needed.
type resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// discover finds the endpoints of the etcd of a domain, as etcd's own clients do. Where servers with TLS are announced, the
// others are left out: nobody who can change one record should get to read what is sent.
func discover(ctx context.Context, dns resolver, domain string) ([]string, error) {
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
			// Whether there are servers with TLS is not known now, so those without do not count.
			return nil, fmt.Errorf("look up the etcd of domain %s: %w: check ETCD_DISCOVERY_SRV and the name servers", domain, err)
		}
		absent = append(absent, "_"+way.service+"._tcp."+domain)
	}
	return nil, fmt.Errorf("no etcd is announced: there is no SRV record %s: check ETCD_DISCOVERY_SRV, or set ETCD_ENDPOINTS instead",
		strings.Join(absent, " or "))
}
