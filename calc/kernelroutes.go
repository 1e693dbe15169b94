package calc

import "github.com/margay-project/margay/api"

// kernelRoutes reads how learned routes go into the kernel. Only the configuration named default counts, as in Calico.
func (r *bgpReader) kernelRoutes() {
	r.bgp.Metric4, r.bgp.Metric6 = metricOf(r.def.IPv4NormalRoutePriority), metricOf(r.def.IPv6NormalRoutePriority)
	if routes := r.def.ProgramClusterRoutes; routes != nil {
		r.bgp.NoPools = *routes == "Disabled" || *routes == "EnabledIPIPOnly"
	}
}

func metricOf(priority *int) int {
	if priority == nil {
		return 0
	}
	return max(*priority, 0)
}

// routeless notes that no part of this agent makes routes to other nodes: BGP is told not to, and this agent is not asked to.
func routeless(bgp BGP, config Config) (problems []Problem) {
	if bgp.NoPools && !config.ClusterRoutes {
		problems = append(problems, Problem{
			Object: api.Key{Kind: api.KindBGPConfiguration, Name: "default"},
			Text: "programClusterRoutes keeps learned routes to pools out of the kernel, and that of FelixConfiguration makes none instead, so " +
				"workloads of other nodes are not reached: set it to Enabled in FelixConfiguration, or remove it here",
		})
	}
	return problems
}
