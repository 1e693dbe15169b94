package etcd

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a name server that knows one domain. A record is an address or, for a service, the servers' names.
type nameServer struct {
	resolver *net.Resolver

	mu       sync.Mutex
	hosts    map[string]string   // names to IPv4 addresses
	services map[string][]string // names of services to names of hosts; all at etcd's usual port
}

// serveNames runs a name server until the test ends.
func serveNames(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{hosts: map[string]string{}, services: map[string][]string{}}
	n.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := n.answer(buffer[:size]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return n
}

// announce replaces the servers of a service.
func (n *nameServer) announce(service string, hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.services[service] = hosts
}

func (n *nameServer) answer(packet []byte) []byte {
	var message dnsmessage.Message
	if err := message.Unpack(packet); err != nil || len(message.Questions) != 1 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	question := message.Questions[0]
	name := strings.TrimSuffix(question.Name.String(), ".")
	message.Response, message.Authoritative, message.Additionals = true, true, nil
	for _, host := range n.services[name] {
		if question.Type == dnsmessage.TypeSRV {
			message.Answers = append(message.Answers, resource(question, &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(host + "."), Port: 2379}))
		}
	}
	address, known := n.hosts[name]
	if known && question.Type == dnsmessage.TypeA {
		message.Answers = append(message.Answers, resource(question, &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())}))
	}
	if len(n.services[name]) == 0 && !known {
		message.RCode = dnsmessage.RCodeNameError
	}
	reply, err := message.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func resource(q dnsmessage.Question, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: body}
}
