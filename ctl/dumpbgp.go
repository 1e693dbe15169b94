package main

import (
	"maps"
	"slices"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/print"
)

// bgpTable has a row for each prefix that a peer has from this node. Prefixes that no peer has come last.
func bgpTable(announcements []*agentv1.Announcement) print.Section {
	t := print.Section{Title: "BGP", Headings: []string{"ANNOUNCED TO", "PREFIX", "REASON", "COMMUNITIES"}}
	byPeer := map[string][]*agentv1.Announcement{}
	var idle []*agentv1.Announcement
	for _, a := range announcements {
		for _, peer := range a.Peers {
			byPeer[peer] = append(byPeer[peer], a)
		}
		if len(a.Peers) == 0 {
			idle = append(idle, a)
		}
	}
	add := func(peer string, rows []*agentv1.Announcement) {
		for _, a := range rows {
			t.Add(peer, a.Prefix, a.Reason, list(a.Communities))
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(byPeer)) {
		add(peer, byPeer[peer])
	}
	add("no peer yet", idle)
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
