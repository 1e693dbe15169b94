package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

func interfaceTable(interfaces []*agentv1.Interface) section {
	t := section{title: "Interfaces", headings: []string{"INTERFACE", "ENDPOINT", "STATE", "REASON"}}
	for _, i := range interfaces {
		endpoint, state := i.Endpoint, i.State
		if endpoint != "" && i.EndpointKind != "" {
			endpoint = i.EndpointKind + "(" + endpoint + ")"
		}
		if state == "none" || state == "" {
			state = "not under policy"
		}
		t.add(i.Name, endpoint, state, i.Reason)
	}
	return t
}

func (s *session) peerTable(peers []*agentv1.Peer) section {
	t := section{title: "Peers", headings: []string{"PEER", "ADDRESS", "AS", "STATE", "FOR", "ANNOUNCED", "RECEIVED", "ERROR"}}
	for _, p := range peers {
		t.add(p.Name, p.Address, number(p.As), p.State, s.since("", p.Since), number(p.Announced), number(p.Received), p.Error)
	}
	return t
}

func reconciledTable(tables []*agentv1.Table) section {
	t := section{title: "Tables", headings: []string{"TABLE", "WANTED", "PROGRAMMED", "FAILED", "ERROR"}}
	for _, x := range tables {
		t.add(x.Name, number(x.Wanted), number(x.Programmed), number(x.Failed), x.Error)
	}
	return t
}

func problemTable(problems []*agentv1.Problem) section {
	t := section{title: "Problems", headings: []string{"OBJECT", "PROBLEM"}}
	for _, p := range problems {
		t.add(p.Object, p.Text)
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
