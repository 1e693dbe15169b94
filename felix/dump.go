package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

const (
	defaultConnections = 10000
	mostMembers        = 1000 // of a set
	defaultReceived    = 10000
	announcements      = "announcements"
	received           = "received"
)

// dumpTables lists the tables that a request may name.
var dumpTables = [...]string{
	dataplane.TableEndpoints, dataplane.TablePolicies, dataplane.TableSets, dataplane.TableRules,
	dataplane.TableConnections, dataplane.TableRoutes, announcements, received,
}

// checkTables refuses tables that do not exist.
func checkTables(tables []string) error {
	for _, name := range tables {
		if !slices.Contains(dumpTables[:], name) {
			return fmt.Errorf("there is no table %q: ask for %s", name, strings.Join(dumpTables[:], ", "))
		}
	}
	return nil
}

// wantedTables returns the tables that a request asks for.
func wantedTables(request *agentv1.DumpRequest) []string {
	if len(request.Tables) == 0 {
		return dumpTables[:]
	}
	return request.Tables
}

// noteUnread notes that a table could not be read.
func noteUnread(response *agentv1.DumpResponse, table string, err error) {
	if err != nil {
		response.Unread = append(response.Unread, &agentv1.UnreadTable{Table: table, Reason: err.Error()})
	}
}

// dump lists the state in force, read back from the kernel and the speaker. A table that cannot be read does not hide the others.
func (a *agent) dump(request *agentv1.DumpRequest) *agentv1.DumpResponse {
	tables := wantedTables(request)
	most := int(request.MaxConnections)
	if most == 0 {
		most = defaultConnections
	}
	kernel, _ := a.driver.Dump(most, tables...)
	response := &agentv1.DumpResponse{Node: a.settings.nodeName}
	for _, table := range slices.Sorted(maps.Keys(kernel.Unread)) {
		noteUnread(response, table, kernel.Unread[table])
	}
	for _, ep := range kernel.Endpoints {
		response.Endpoints = append(response.Endpoints, dumpEndpoint(ep))
	}
	for _, p := range kernel.Policies {
		response.Policies = append(response.Policies, dumpPolicy(p))
	}
	if slices.Contains(tables, dataplane.TablePolicies) {
		a.dumpIdlePolicies(request.IdlePolicies, response)
	}
	for _, s := range kernel.Sets {
		response.Sets = append(response.Sets, dumpSet(s))
	}
	problems := a.problemsByObject()
	for _, r := range kernel.Rules {
		response.Rules = append(response.Rules, dumpRule(r, problems))
	}
	for _, c := range kernel.Connections {
		response.Connections = append(response.Connections, dumpConnection(c))
	}
	if kernel.Truncated {
		response.Truncated = append(response.Truncated, dataplane.TableConnections)
	}
	for _, r := range kernel.Routes {
		response.Routes = append(response.Routes, &agentv1.Route{
			Destination: r.Destination.String(), Interface: r.Interface, Kind: r.Kind, State: r.State, Error: r.Error,
		})
	}
	if slices.Contains(tables, announcements) {
		a.dumpAnnouncements(response)
	}
	return response
}

func (a *agent) dumpAnnouncements(response *agentv1.DumpResponse) {
	list, err := a.speaker.Announced()
	noteUnread(response, announcements, err)
	for _, p := range list {
		announced := &agentv1.Announcement{Prefix: p.Prefix.String(), Reason: p.Reason, Communities: p.Communities, Peers: p.Peers}
		for _, r := range p.Rejected {
			announced.Rejected = append(announced.Rejected, &agentv1.RejectedPeer{Peer: r.Peer, Reason: r.Why})
		}
		response.Announcements = append(response.Announcements, announced)
	}
}

// dumpIdlePolicies counts the policies that apply to no endpoint here, and lists them on demand.
func (a *agent) dumpIdlePolicies(list bool, response *agentv1.DumpResponse) {
	response.IdlePolicies = proto.Uint32(uint32(a.graph.CountIdle()))
	if !list {
		return
	}
	for _, p := range a.graph.Idle() {
		response.Policies = append(response.Policies, &agentv1.Policy{
			Kind: p.ID.Kind, Namespace: p.ID.Namespace, Name: p.ID.Name, Tier: p.Tier, Order: orderText(p.Order),
			IngressRules: uint32(p.Rules[calc.Ingress]), EgressRules: uint32(p.Rules[calc.Egress]),
		})
	}
}

func dumpEndpoint(ep calc.Endpoint) *agentv1.Endpoint {
	out := &agentv1.Endpoint{
		Kind: ep.ID.Kind, Namespace: ep.ID.Namespace, Name: ep.ID.Name, Interface: ep.Interface,
		Profiles: ep.Profiles, Closed: ep.Closed,
	}
	for _, addr := range ep.Addresses {
		out.Addresses = append(out.Addresses, addr.String())
	}
	for stage, directions := range ep.Policies {
		for direction, tiers := range directions {
			if len(tiers) == 0 {
				continue
			}
			s := &agentv1.StagePolicies{Stage: calc.Stage(stage).String(), Direction: calc.Direction(direction).String()}
			for _, tier := range tiers {
				for _, id := range tier.Policies {
					s.Policies = append(s.Policies, policyName(tier.Tier, id))
				}
			}
			out.Stages = append(out.Stages, s)
		}
	}
	return out
}

func dumpPolicy(p dataplane.Policy) *agentv1.Policy {
	return &agentv1.Policy{
		Kind: p.ID.Kind, Namespace: p.ID.Namespace, Name: p.ID.Name, Tier: p.Tier, Order: orderText(p.Order),
		IngressRules: uint32(len(p.Ingress)), EgressRules: uint32(len(p.Egress)), Endpoints: uint32(p.Endpoints),
	}
}

// orderText is empty for a policy without an order, which comes last.
func orderText(o calc.Order) string {
	if !o.Set {
		return ""
	}
	return fmt.Sprint(o.Value)
}

func dumpSet(s dataplane.Set) *agentv1.Set {
	out := &agentv1.Set{Selector: string(s.ID), Size: uint32(len(s.Members))}
	for _, m := range s.Members[:min(len(s.Members), mostMembers)] {
		out.Members = append(out.Members, memberText(m))
	}
	return out
}

// memberText leaves out the length of a single address.
func memberText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func dumpRule(r dataplane.Rule, problems map[api.Key][]calc.Problem) *agentv1.Rule {
	out := &agentv1.Rule{
		Rule: r.ID.String(), Direction: r.ID.Direction.String(), Action: r.Action, Packets: r.Packets, Bytes: r.Bytes,
		NotEnforced: notEnforced(r.ID, problems),
	}
	if r.Rule != nil {
		// The sentence begins with the action, which has its own field.
		_, out.Criteria, _ = strings.Cut(r.Rule.String(), " ")
	}
	return out
}

// notEnforced says why a rule is not in force as written. It is empty if it is.
func notEnforced(id calc.RuleID, problems map[api.Key][]calc.Problem) string {
	for _, p := range problems[api.Key{Kind: id.Policy.Kind, Namespace: id.Policy.Namespace, Name: id.Policy.Name}] {
		if why, ok := p.OfRule(id.Direction, id.Index); ok {
			return why
		}
	}
	return ""
}

func (a *agent) problemsByObject() map[api.Key][]calc.Problem {
	by := map[api.Key][]calc.Problem{}
	for p := range a.state.Problems {
		by[p.Object] = append(by[p.Object], p)
	}
	return by
}

func dumpConnection(c dataplane.Connection) *agentv1.Connection {
	out := &agentv1.Connection{
		Protocol: protocolName(c.Protocol), Source: c.Opener.String(), Destination: c.Replier.String(), State: c.State,
		PacketsOut: c.Packets[0], PacketsBack: c.Packets[1], BytesOut: c.Bytes[0], BytesBack: c.Bytes[1],
		IdleSeconds: uint64(c.Idle.Seconds()),
	}
	if !hasPorts(c.Protocol) {
		out.Source, out.Destination = c.Opener.Addr().String(), c.Replier.Addr().String()
	}
	out.Approvals, out.Refusals = dumpApprovals(c.Approvals), dumpApprovals(c.Refusals)
	return out
}

func dumpApprovals(all []dataplane.Approval) (out []*agentv1.Approval) {
	for _, a := range all {
		out = append(out, &agentv1.Approval{
			Endpoint: endpointName(a.Endpoint), Interface: a.Interface, Stage: a.Stage, Rule: a.Rule.String(), Current: a.Current,
		})
	}
	return out
}

func hasPorts(protocol uint8) bool {
	return slices.Contains([]uint8{6, 17, 132, 136}, protocol)
}

func protocolName(protocol uint8) string {
	names := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
	if name, known := names[protocol]; known {
		return name
	}
	return fmt.Sprint(protocol)
}
