package main

import (
	"maps"
	"slices"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/print"
)

// bgpTable has a row for each prefix that a peer has from this node, or that filters keep from it. Prefixes that concern no peer
// come last.
func bgpTable(announcements []*agentv1.Announcement) print.Section {
	t := print.Section{Title: "BGP", Headings: []string{"PEER", "PREFIX", "ANNOUNCED", "REASON", "COMMUNITIES"}}
	rows := map[string][]func(){}
	var idle []*agentv1.Announcement
	for _, a := range announcements {
		note := func(peer, announced string) {
			rows[peer] = append(rows[peer], func() { t.Add(peer, a.Prefix, announced, a.Reason, list(a.Communities)) })
		}
		for _, peer := range a.Peers {
			note(peer, "yes")
		}
		for _, w := range a.Rejected {
			note(w.Peer, "no: "+w.Reason)
		}
		if len(a.Peers)+len(a.Rejected) == 0 {
			idle = append(idle, a)
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(rows)) {
		for _, add := range rows[peer] {
			add()
		}
	}
	for _, a := range idle {
		t.Add("none yet", a.Prefix, "no", a.Reason, list(a.Communities))
	}
	return t
}

// receivedTable has a row for each route of each peer.
func receivedTable(received []*agentv1.ReceivedRoute) print.Section {
	t := print.Section{Title: "Received", Headings: []string{"PREFIX", "FROM", "ADDRESS", "NEXT HOP", "AS PATH", "LOCAL PREF", "MED",
		"COMMUNITIES", "IN THE KERNEL", "REASON"}}
	for _, r := range received {
		inKernel := "no"
		switch r.State {
		case "programmed":
			inKernel = "yes"
		case "failed", "waiting":
			inKernel += ", " + r.State
		}
		if r.Stale {
			inKernel += ", stale"
		}
		t.Add(r.Prefix, r.Peer, r.Address, r.NextHop, r.AsPath, optional(r.LocalPreference), optional(r.Med), list(r.Communities),
			inKernel, r.Reason)
	}
	return t
}

// optional is empty for a number that is not set.
func optional(n *uint32) string {
	if n == nil {
		return ""
	}
	return number(*n)
}
