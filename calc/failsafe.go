package calc

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
)

// Failsafes are rules at the front of a host endpoint's lists, so that no policy can cut the host off. First come the agent's own
// sessions, by exact address and port, which no setting removes; then the failsafe ports.
//
// At the stage Normal they allow. At the early stages, PreDNAT and Untracked, they only skip the policies: their Pass leaves the stage
// undecided, because forwarded packets have no failsafes, and because a packet that looks like a reply may be none. The stage Untracked
// knows no connections, so it skips the replies of both kinds, too: the stage Normal judges them, where their connection is known.
var (
	failsafeSessions       = PolicyID{Kind: KindFailsafe, Name: "sessions"}
	failsafePorts          = PolicyID{Kind: KindFailsafe, Name: "ports"}
	failsafeEarlySessions  = PolicyID{Kind: KindFailsafe, Name: "early-sessions"}
	failsafeEarlyPorts     = PolicyID{Kind: KindFailsafe, Name: "early-ports"}
	failsafeSessionReplies = PolicyID{Kind: KindFailsafe, Name: "session-replies"}
	failsafePortReplies    = PolicyID{Kind: KindFailsafe, Name: "port-replies"}
)

// withFailsafes puts the failsafes into the lists of a host endpoint: always at the stage Normal, where the end denies, and at the early
// stages only if a policy there might deny. Forwarded traffic has none.
func withFailsafes(lists *[Stages][2][]TierPolicies) {
	front := []TierPolicies{{Policies: []PolicyID{failsafeSessions, failsafePorts}}}
	for dir := range lists[Normal] {
		lists[Normal][dir] = append(slices.Clone(front), lists[Normal][dir]...)
	}
	front = []TierPolicies{{Policies: []PolicyID{failsafeEarlySessions, failsafeEarlyPorts}}}
	if pre := &lists[PreDNAT][Ingress]; len(*pre) > 0 {
		*pre = append(slices.Clone(front), *pre...)
	}
	if raw := &lists[Untracked]; len(raw[Ingress]) > 0 || len(raw[Egress]) > 0 {
		// In both directions, even if only one has policies: both halves of a connection are tracked or neither is.
		front[0].Policies = append(slices.Clone(front[0].Policies), failsafeSessionReplies, failsafePortReplies)
		for dir := range raw {
			raw[dir] = append(slices.Clone(front), raw[dir]...)
		}
	}
}

// failsafePolicies makes the rules of the six failsafe lists.
func failsafePolicies(sessions []Session, inbound, outbound []failsafePort) map[PolicyID]Policy {
	own, ownReplies := Policy{ID: failsafeSessions}, Policy{}
	for _, s := range sessions {
		port := failsafePort{protocol: s.Protocol, port: s.Port, remote: host(s.Remote)}
		if s.Outbound {
			own.Egress, ownReplies.Ingress = append(own.Egress, port.out()), append(ownReplies.Ingress, port.outReply())
		} else {
			own.Ingress, ownReplies.Egress = append(own.Ingress, port.in()), append(ownReplies.Egress, port.inReply())
		}
	}
	ports, replies := Policy{ID: failsafePorts}, Policy{}
	for _, p := range inbound {
		ports.Ingress, replies.Egress = append(ports.Ingress, p.in()), append(replies.Egress, p.inReply())
	}
	for _, p := range outbound {
		ports.Egress, replies.Ingress = append(ports.Egress, p.out()), append(replies.Ingress, p.outReply())
	}
	all := map[PolicyID]Policy{}
	for _, p := range []Policy{
		own, ports, passing(failsafeEarlySessions, own), passing(failsafeEarlyPorts, ports),
		passing(failsafeSessionReplies, ownReplies), passing(failsafePortReplies, replies),
	} {
		all[p.ID] = p
	}
	return all
}

// passing turns a failsafe list into one for an early stage: its rules pass.
func passing(id PolicyID, like Policy) Policy {
	p := Policy{ID: id, Ingress: slices.Clone(like.Ingress), Egress: slices.Clone(like.Egress)}
	for _, rules := range [...][]Rule{p.Ingress, p.Egress} {
		for i := range rules {
			rules[i].Action = api.Pass
		}
	}
	return p
}

// failsafePort is a port that stays open. remote limits the other end's addresses, unless it is the zero prefix.
type failsafePort struct {
	protocol uint8
	port     uint16
	remote   netip.Prefix
}

// in allows connections from outside to the port of this host, and out those from this host to the port of another. inReply and outReply
// allow the packets of such connections in the other direction.
func (f failsafePort) in() Rule {
	return f.rule(f.far(nil), Match{Ports: f.ports()})
}

func (f failsafePort) inReply() Rule {
	return f.rule(Match{Ports: f.ports()}, f.far(nil))
}

func (f failsafePort) out() Rule {
	return f.rule(Match{}, f.far(f.ports()))
}

func (f failsafePort) outReply() Rule {
	return f.rule(f.far(f.ports()), Match{})
}

func (f failsafePort) ports() []PortRange { return []PortRange{{First: f.port, Last: f.port}} }

// far is the criteria of the remote side.
func (f failsafePort) far(ports []PortRange) Match {
	m := Match{Ports: ports}
	if f.remote.IsValid() {
		m.Nets = []netip.Prefix{f.remote}
	}
	return m
}

func (f failsafePort) rule(source, destination Match) Rule {
	r := Rule{
		Action: api.Allow, V4: true, V6: true,
		Protocol: f.protocol, Source: source, Destination: destination,
	}
	if f.remote.IsValid() {
		r.V4, r.V6 = f.remote.Addr().Is4(), f.remote.Addr().Is6()
	}
	return r
}

// readFailsafes reads a list of failsafe ports. nil: it is not set, and the default holds.
func readFailsafes(field string, list *[]api.ProtoPort, otherwise []failsafePort,
	note func(field, format string, args ...any)) (ports []failsafePort) {
	if list == nil {
		return otherwise
	}
	for _, entry := range *list {
		protocol, known := protocolNamed(entry.Protocol)
		if !known || !HasPorts(protocol) {
			note(field, "%s: protocol %q has no ports, so the entry is ignored: use tcp or udp", field, entry.Protocol)
			continue
		}
		port := failsafePort{protocol: protocol, port: entry.Port}
		if net := strings.TrimSpace(entry.Net); net != "" {
			remote, err := api.ParseNet(net)
			if err != nil {
				note(field, "%s: %v: correct it; until then the entry is ignored", field, err)
				continue
			}
			port.remote = remote
		}
		ports = append(ports, port)
	}
	return ports
}

// protocolNamed reads a protocol's name in any case, or its number as text. Empty means TCP.
func protocolNamed(text string) (uint8, bool) {
	if text = strings.TrimSpace(text); text == "" {
		return protocolTCP, true
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return api.Protocol{Number: uint8(n)}.Value()
	}
	return api.Protocol{Name: text}.Value()
}

// The defaults include DHCP for IPv4 and IPv6. DHCPv6 needs both ports (RFC 8415, section 7.2): the client asks a multicast group, so a
// server's answer belongs to no tracked connection. It stays on the link.
func defaultInbound() []failsafePort {
	ports := append([]failsafePort{{protocol: protocolTCP, port: 22}, {protocol: protocolUDP, port: 68}}, infrastructure()...)
	return append(ports, failsafePort{protocol: protocolUDP, port: 546, remote: linkLocal})
}

func defaultOutbound() []failsafePort {
	ports := append([]failsafePort{{protocol: protocolUDP, port: 53}, {protocol: protocolUDP, port: 67}}, infrastructure()...)
	return append(ports, failsafePort{protocol: protocolUDP, port: 547, remote: linkLocal}, failsafePort{protocol: protocolUDP, port: 547, remote: allDHCP})
}

var (
	linkLocal = netip.MustParsePrefix("fe80::/10")
	allDHCP   = netip.MustParsePrefix("ff02::1:2/128") // every server and relay of the link
)

// infrastructure are the ports that the machines of a cluster need among themselves: BGP, etcd, Typha, the Kubernetes API. They are
// Calico's defaults.
func infrastructure() (ports []failsafePort) {
	for _, port := range []uint16{179, 2379, 2380, 5473, 6443, 6666, 6667} {
		ports = append(ports, failsafePort{protocol: protocolTCP, port: port})
	}
	return ports
}
