package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// lockout says that an object, once it is stored, closes the SSH session by which margayctl is used on this machine; empty
// when it does not. It is asked before the object is written: afterwards nobody may see the answer any more.
func (s *session) lockout(ctx context.Context, st store, o api.Object) string {
	client, server, ok := sshConnection(s.getenv("SSH_CONNECTION"))
	if !ok {
		return ""
	}
	interfaces := s.interfaces()
	switch o := o.(type) {
	case *api.FelixConfiguration:
	case *api.HostEndpoint: // of many there may be, only one node's are of interest
		node, _ := st.Get(ctx, api.Key{Kind: api.KindNode, Name: o.Spec.Node})
		if nodeHere([]api.Update{{Object: node}}, interfaces) != o.Spec.Node {
			return ""
		}
	default:
		return ""
	}
	updates, err := judged(ctx, st, o)
	if err != nil {
		return "" // the write will say what is wrong
	}
	node := nodeHere(updates, interfaces)
	state := calc.Compute(node, calc.Facts{Addresses: slices.Concat(values(interfaces)...)}, updates)
	for name, addresses := range interfaces {
		id, governed := calc.HostEndpointFor(name, addresses, state.Endpoints)
		if !governed || !slices.Contains(addresses, server.Addr()) || calc.Reaches(state, id, []netip.Addr{client}, server.Addr(), server.Port()) {
			continue
		}
		return fmt.Sprintf("HostEndpoint(%s) closes your own SSH session, from %v to port %d of this machine: no failsafe port and no rule lets it in; "+
			"add the port to failsafeInboundHostPorts, or allow it in a policy", id.Name, client, server.Port())
	}
	return ""
}

func values(m map[string][]netip.Addr) (all [][]netip.Addr) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// sshConnection reads what sshd says of the session: the client's address and port, and the server's.
func sshConnection(text string) (client netip.Addr, server netip.AddrPort, ok bool) {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return client, server, false
	}
	client, err := netip.ParseAddr(fields[0])
	if err != nil {
		return client, server, false
	}
	here, err := netip.ParseAddr(fields[2])
	if err != nil {
		return client, server, false
	}
	port, err := strconv.ParseUint(fields[3], 10, 16)
	return client.Unmap().WithZone(""), netip.AddrPortFrom(here.Unmap().WithZone(""), uint16(port)), err == nil
}

// judged are the objects of the store that have to do with what a host lets in, and o in the place of its stored form.
func judged(ctx context.Context, st store, o api.Object) (updates []api.Update, err error) {
	for _, kind := range []string{
		api.KindTier, api.KindProfile, api.KindGlobalNetworkPolicy, api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindHostEndpoint, api.KindWorkloadEndpoint,
		api.KindFelixConfiguration, api.KindNode, api.KindBGPConfiguration, api.KindBGPPeer,
	} {
		err := st.EachPage(ctx, kind, "", func(objects []api.Object, _ string) error {
			for _, stored := range objects {
				if key := api.KeyOf(stored); key != api.KeyOf(o) {
					updates = append(updates, api.Update{Key: key, Object: stored})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return append(updates, api.Update{Key: api.KeyOf(o), Object: o}), nil
}

// nodeHere is the node of this machine: that with one of its addresses, else that with the host's name.
func nodeHere(updates []api.Update, interfaces map[string][]netip.Addr) string {
	for _, u := range updates {
		node, ok := u.Object.(*api.Node)
		if !ok || node.Spec.BGP == nil {
			continue
		}
		for _, text := range []string{node.Spec.BGP.IPv4Address, node.Spec.BGP.IPv6Address} {
			at, err := api.ParseAddrNet(text)
			if err != nil {
				continue
			}
			for _, addresses := range interfaces {
				if slices.Contains(addresses, at.Addr()) {
					return node.Name
				}
			}
		}
	}
	name, _ := os.Hostname()
	return strings.ToLower(name)
}

// interfacesHere are the interfaces of this machine with their addresses, without the loopback, which no policy judges.
func interfacesHere() map[string][]netip.Addr {
	found := map[string][]netip.Addr{}
	links, _ := net.Interfaces()
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, _ := link.Addrs()
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				found[link.Name] = append(found[link.Name], prefix.Addr().Unmap())
			}
		}
	}
	return found
}
