package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/print"
)

func interfaceTable(interfaces []*agentv1.Interface) print.Section {
	t := print.Section{Title: "Interfaces", Headings: []string{"INTERFACE", "ENDPOINT", "STATE", "REASON"}}
	for _, i := range interfaces {
		endpoint, state := i.Endpoint, i.State
		if endpoint != "" && i.EndpointKind != "" {
			endpoint = i.EndpointKind + "(" + endpoint + ")"
		}
		if state == "none" || state == "" {
			state = "not under policy"
		}
		if i.Attachment != "" {
			state += " (" + i.Attachment + ")"
		}
		t.Add(i.Name, endpoint, state, i.Reason)
	}
	return t
}

func (s *session) peerTable(peers []*agentv1.Peer) print.Section {
	t := print.Section{Title: "Peers", Headings: []string{"PEER", "ADDRESS", "AS", "STATE", "FOR", "ANNOUNCED", "RECEIVED", "ERROR"}}
	for _, p := range peers {
		t.Add(p.Name, p.Address, number(p.As), p.State, s.since("", p.Since), number(p.Announced), number(p.Received), p.Error)
	}
	return t
}

func reconciledTable(tables []*agentv1.Table) print.Section {
	t := print.Section{Title: "Tables", Headings: []string{"TABLE", "WANTED", "PROGRAMMED", "FAILED", "ERROR"}}
	for _, x := range tables {
		t.Add(x.Name, number(x.Wanted), number(x.Programmed), number(x.Failed), x.Error)
	}
	return t
}

func problemTable(problems []*agentv1.Problem) print.Section {
	t := print.Section{Title: "Problems", Headings: []string{"OBJECT", "PROBLEM"}}
	for _, p := range problems {
		t.Add(p.Object, p.Text)
	}
	return t
}

// countsText lists counts by name, without the zeros.
func countsText(counts map[string]uint64) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			texts = append(texts, fmt.Sprintf("%s %d", name, counts[name]))
		}
	}
	return strings.Join(texts, ", ")
}
