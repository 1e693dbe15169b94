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

// lockout returns a warning if an object, once stored, would close the SSH session that margayctl runs in; empty otherwise.
// It is called before the object is written: afterwards the user may not see the warning any more.
func (s *session) lockout(ctx context.Context, st store, o api.Object) string {
	client, server, ok := sshConnection(s.getenv("SSH_CONNECTION"))
	if !ok {
		return ""
	}
	interfaces := s.interfaces()
	switch o := o.(type) {
	case *api.FelixConfiguration:
	case *api.HostEndpoint: // only those of this machine's node matter
		node, _ := st.Get(ctx, api.Key{Kind: api.KindNode, Name: o.Spec.Node})
		if nodeHere([]api.Update{{Object: node}}, interfaces) != o.Spec.Node {
			return ""
		}
	default:
		return ""
	}
	updates, err := judged(ctx, st, o)
	if err != nil {
		return "" // the write reports the same error
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

// sshConnection parses $SSH_CONNECTION, which sshd sets: the client's address and port, and the server's.
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

// judged returns the stored objects that decide which packets a host lets in, with o in place of its stored form.
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

// nodeHere returns the name of this machine's node: of the Node whose BGP address this machine has, else the host's name.
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

// interfacesHere returns the addresses of this machine by interface, without the loopback, which no policy judges.
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
