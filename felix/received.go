package main

import (
	"cmp"
	"context"
	"slices"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/dataplane/bgp/process"
)

// receivedRoutes reads the routes of all peers, if a request asks for them. It runs beside the loop, because there may be many.
func (s *server) receivedRoutes(ctx context.Context, request *agentv1.DumpRequest) ([]bgp.Received, error) {
	if !slices.Contains(wantedTables(request), received) {
		return nil, nil
	}
	speaker, err := askLoop(ctx, s, func(a *agent) (*process.Process, error) { return a.speaker, nil })
	if err != nil {
		return nil, err
	}
	return speaker.Received()
}

// dumpReceived says for each received route whether the kernel has it, and if not, why. 0 routes at most: the default.
func (a *agent) dumpReceived(routes []bgp.Received, most int, response *agentv1.DumpResponse) {
	if most = cmp.Or(most, defaultReceived); len(routes) > most {
		routes = routes[:most]
		response.Truncated = append(response.Truncated, received)
	}
	kernel := a.driver.Learned()
	for _, r := range routes {
		out := &agentv1.ReceivedRoute{
			Prefix: r.Prefix.String(), Peer: r.Peer, Address: r.Neighbour.String(), AsPath: r.ASPath, Communities: r.Communities,
			LocalPreference: number(r.LocalPref), Med: number(r.MED), Best: r.Best, Stale: r.Stale, State: "not used", Reason: r.Unused,
		}
		if r.NextHop.IsValid() {
			out.NextHop = calc.HopText(r.NextHop)
		}
		if r.Best {
			out.State, out.Reason = kernel.Of(r.Prefix, r.NextHop)
		}
		response.Received = append(response.Received, out)
	}
}

// number returns an attribute in its form on the wire. It is nil if the peer sent none.
func number(n *bgp.Number) *uint32 {
	if n == nil {
		return nil
	}
	return &n.Value
}
