package dataplane

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/dataplane/interfaces"
)

// sourceNets returns the networks that the workload on an interface may send from besides its addresses: none, unless the operator of all
// nodes has allowed such networks.
func (d *Driver) sourceNets(a interfaces.Assignment) []netip.Prefix {
	if !d.state.Config.SourceNets {
		return nil
	}
	return d.state.Endpoints[a.Endpoint].SourceNets
}

// sourceNetProblems names the endpoints whose networks are not in force.
func (d *Driver) sourceNetProblems() (texts []string) {
	if d.state.Config.SourceNets {
		return nil
	}
	for _, ep := range d.state.Endpoints {
		if len(ep.SourceNets) > 0 {
			texts = append(texts, fmt.Sprintf("%s(%s/%s) may not send from its allowSpoofedSourcePrefixes: set workloadSourceSpoofing to Any in a "+
				"FelixConfiguration, or remove them", ep.ID.Kind, ep.ID.Namespace, ep.ID.Name))
		}
	}
	slices.Sort(texts)
	return texts
}
