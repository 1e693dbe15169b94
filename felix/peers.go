package main

import (
	"fmt"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/bgp"
)

// statusOfPeers returns the BGP sessions that the objects ask for.
func (a *agent) statusOfPeers() (peers []*agentv1.Peer) {
	used := a.speaker.InUse(a.driver.Learned().InKernel())
	for _, p := range a.speaker.Status() {
		peer := &agentv1.Peer{
			Name: p.Object, Address: p.Address.String(), As: p.AS, Type: sessionType(p.Name), State: strings.ToLower(p.State),
			Error: p.Why, LastError: p.LastError, Flaps: uint32(p.Flaps),
			Announced: uint64(p.Announced), Received: uint64(p.Received), Used: uint64(used[p.Address]),
		}
		if !p.Since.IsZero() {
			peer.Since = p.Since.UnixNano()
		}
		if !p.ErrorAt.IsZero() {
			peer.LastErrorAt = p.ErrorAt.UnixNano()
		}
		peers = append(peers, peer)
	}
	return peers
}

const (
	meshType = "node-to-node mesh"
	fewPeers = 5 // that a problem names
)

// meshProblem names the sessions of the mesh that are down, all in one problem: a node that has gone is missed by every other one.
func meshProblem(peers []*agentv1.Peer) []*agentv1.Problem {
	total, names := 0, []string(nil)
	for _, p := range peers {
		if p.Type != meshType {
			continue
		}
		total++
		if p.State != "established" {
			names = append(names, fmt.Sprintf("%s at %s", strings.TrimPrefix(p.Name, bgp.MeshPrefix), p.Address))
		}
	}
	if len(names) == 0 {
		return nil
	}
	down, more := len(names), ""
	if down > fewPeers {
		names, more = names[:fewPeers], fmt.Sprintf(" and %d more", down-fewPeers)
	}
	return []*agentv1.Problem{{Object: "BGP", Text: fmt.Sprintf("%d of %d sessions of the mesh are not established: with %s%s. "+
		"margayctl node status says why; if a host is gone for good, delete its Node: margayctl delete node NAME",
		down, total, strings.Join(names, ", "), more)}}
}

// routeProblems are about routes by other hosts that the kernel does not have.
func routeProblems(lines []string) (list []*agentv1.Problem) {
	for _, line := range lines {
		list = append(list, &agentv1.Problem{Object: "routes", Text: line})
	}
	return list
}

// sessionType is the type that calicoctl shows for a session. The name of a session begins with it, as in Calico.
func sessionType(name string) string {
	switch {
	case strings.HasPrefix(name, "Mesh_"):
		return meshType
	case strings.HasPrefix(name, "Global_"):
		return "global"
	}
	return "node specific"
}
