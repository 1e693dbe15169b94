package datastore

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// zone answers from a map; what is not in it does not exist, and what is empty cannot be asked.
type zone map[string][]*net.SRV

func (z zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	name = "_" + service + "._" + proto + "." + name
	records, ok := z[name]
	switch {
	case !ok:
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case len(records) == 0:
		return "", nil, errors.New("server misbehaving")
	}
	return name, records, nil
}

func TestEtcdIsFoundByItsDomain(t *testing.T) {
	t.Parallel()
	servers := []*net.SRV{{Target: "e1.example.org.", Port: 2379}, {Target: "e2.example.org.", Port: 2380}}
	const tls, plain = "_etcd-client-ssl._tcp.example.org", "_etcd-client._tcp.example.org"
	for name, c := range map[string]struct {
		zone    zone
		want    []string
		problem string
	}{
		"plain":                     {zone{plain: servers}, []string{"http://e1.example.org:2379", "http://e2.example.org:2380"}, ""},
		"tls":                       {zone{tls: servers[:1]}, []string{"https://e1.example.org:2379"}, ""},
		"tls is preferred":          {zone{tls: servers[:1], plain: servers}, []string{"https://e1.example.org:2379"}, ""},
		"tls cannot be asked for":   {zone{tls: nil, plain: servers}, nil, "server misbehaving"},
		"plain cannot be asked for": {zone{plain: nil}, nil, "server misbehaving"},
		"nothing":                   {nil, nil, "there is no SRV record " + tls + " or " + plain},
	} {
		got, err := discover(context.Background(), c.zone, "example.org")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
