package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/print"
)

// dumpTables returns the wanted tables of an answer; all of them if wanted is empty.
func dumpTables(d *agentv1.DumpResponse, wanted []string) []print.Section {
	all := []print.Section{
		endpointTable(d.Endpoints), policyTable(d.Policies), setTable(d.Sets), ruleTable(d.Rules),
		connectionTable(d.Connections), routeTable(d.Routes), announcementTable(d.Announcements), receivedTable(d.Received),
	}
	if len(wanted) == 0 {
		return all
	}
	all = append(all, bgpTable(d.Announcements))
	return slices.DeleteFunc(all, func(t print.Section) bool { return !slices.Contains(wanted, strings.ToLower(t.Title)) })
}

// endpointTable has a row for each stage and direction of each endpoint; only the first row of an endpoint names it.
func endpointTable(endpoints []*agentv1.Endpoint) print.Section {
	t := print.Section{Title: "Endpoints", Headings: []string{"ENDPOINT", "KIND", "INTERFACE", "ADDRESSES", "PROFILES",
		"STAGE", "DIRECTION", "POLICIES", "CLOSED"}}
	for _, e := range endpoints {
		cells := []string{qualified(e.Namespace, e.Name), e.Kind, e.Interface, list(e.Addresses), list(e.Profiles)}
		if len(e.Stages) == 0 {
			t.Add(append(cells, "", "", "", e.Closed)...)
			continue
		}
		for i, stage := range e.Stages {
			closed := e.Closed
			if i > 0 {
				cells, closed = make([]string, len(cells)), ""
			}
			t.Add(append(slices.Clone(cells), stage.Stage, stage.Direction, list(stage.Policies), closed)...)
		}
	}
	return t
}

const policiesTitle = "Policies"

// idleNote explains the policies that apply to no endpoint of this node: the table leaves them out, or lists them with
// 0 endpoints.
func idleNote(d *agentv1.DumpResponse, listed bool) string {
	switch {
	case d.IdlePolicies == nil: // an older agent
		return "policies that apply to no endpoint of this node are not in force here and not listed"
	case *d.IdlePolicies == 0:
		return ""
	case listed:
		return "policies with 0 endpoints are in the datastore and not in force here: they apply to no endpoint of this node"
	case *d.IdlePolicies == 1:
		return "1 more policy of the datastore applies to no endpoint of this node: --all lists it"
	}
	return fmt.Sprintf("%d more policies of the datastore apply to no endpoint of this node: --all lists them", *d.IdlePolicies)
}

func policyTable(policies []*agentv1.Policy) print.Section {
	t := print.Section{Title: policiesTitle, Headings: []string{"POLICY", "KIND", "TIER", "ORDER", "INGRESS RULES", "EGRESS RULES", "ENDPOINTS"}}
	for _, p := range policies {
		order := p.Order
		if order == "" {
			order = "last"
		}
		t.Add(qualified(p.Namespace, p.Name), p.Kind, p.Tier, order, number(p.IngressRules), number(p.EgressRules), number(p.Endpoints))
	}
	return t
}

func setTable(sets []*agentv1.Set) print.Section {
	t := print.Section{Title: "Sets", Headings: []string{"SET", "SIZE", "MEMBERS"}}
	for _, s := range sets {
		t.Add(s.Selector, number(s.Size), firstOf(s.Members, s.Size))
	}
	return t
}

func ruleTable(rules []*agentv1.Rule) print.Section {
	t := print.Section{Title: "Rules", Headings: []string{"RULE", "DIRECTION", "ACTION", "CRITERIA", "PACKETS", "BYTES", "NOT ENFORCED"}}
	for _, r := range rules {
		criteria := r.Criteria
		if criteria == "" {
			criteria = "everything"
		}
		t.Add(r.Rule, r.Direction, r.Action, criteria, number(r.Packets), number(r.Bytes), r.NotEnforced)
	}
	return t
}

func connectionTable(connections []*agentv1.Connection) print.Section {
	t := print.Section{Title: "Connections", Headings: []string{"PROTOCOL", "SOURCE", "DESTINATION", "STATE",
		"PACKETS OUT/BACK", "BYTES OUT/BACK", "IDLE", "JUDGED BY"}}
	for _, c := range connections {
		t.Add(c.Protocol, c.Source, c.Destination, c.State,
			fmt.Sprintf("%d/%d", c.PacketsOut, c.PacketsBack), fmt.Sprintf("%d/%d", c.BytesOut, c.BytesBack),
			(time.Duration(c.IdleSeconds) * time.Second).String(), judgements(c))
	}
	return t
}

// judgements lists the endpoints that allowed the first packet of a connection or have ended it, with the rules that decided.
// An endpoint without policy allows without a rule.
func judgements(c *agentv1.Connection) string {
	var texts []string
	add := func(action string, a *agentv1.Approval) {
		text := fmt.Sprintf("%s on %s: ", a.Endpoint, a.Interface)
		switch {
		case a.Rule != "":
			text += action + " by " + a.Rule
		case action == "Deny":
			text += "Deny by a rule that no longer exists"
		default:
			text += "no policy"
		}
		if a.Stage != "" && a.Stage != "normal" {
			text += " (" + a.Stage + ")"
		}
		if action == "Allow" && a.Rule != "" && !a.Current {
			text += ", under an older policy"
		}
		texts = append(texts, text)
	}
	for _, a := range c.Approvals {
		add("Allow", a)
	}
	for _, a := range c.Refusals {
		add("Deny", a)
	}
	return strings.Join(texts, "; ")
}

func routeTable(routes []*agentv1.Route) print.Section {
	t := print.Section{Title: "Routes", Headings: []string{"DESTINATION", "INTERFACE", "KIND", "STATE", "ERROR"}}
	for _, r := range routes {
		t.Add(r.Destination, r.Interface, r.Kind, r.State, r.Error)
	}
	return t
}

func announcementTable(announcements []*agentv1.Announcement) print.Section {
	t := print.Section{Title: "Announcements", Headings: []string{"PREFIX", "REASON", "COMMUNITIES", "PEERS", "REJECTED FOR"}}
	for _, a := range announcements {
		peers := list(a.Peers)
		if peers == "" {
			peers = "none yet"
		}
		var rejected []string
		for _, r := range a.Rejected {
			rejected = append(rejected, r.Peer)
		}
		t.Add(a.Prefix, a.Reason, list(a.Communities), peers, list(rejected))
	}
	return t
}

func qualified(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func list(items []string) string { return strings.Join(items, ",") }

func number[T uint32 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

// firstOf lists at most five members, and counts the others. size is the number of all members, of which members may hold fewer.
func firstOf(members []string, size uint32) string {
	const shown = 5
	if len(members) <= shown && int(size) <= len(members) {
		return list(members)
	}
	first := members[:min(shown, len(members))]
	return fmt.Sprintf("%s and %d more", list(first), int(size)-len(first))
}
