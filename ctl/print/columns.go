package print

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
)

// cell is one value of an object with the heading of its column.
type cell struct{ heading, value string }

// cells are all columns that a table can show of an object, in the order of the wide table.
type cells []cell

func (c cells) text(heading string) string {
	i := c.index(heading)
	if i < 0 {
		return ""
	}
	return c[i].value
}

func (c cells) has(heading string) bool { return c.index(heading) >= 0 }

func (c cells) index(heading string) int {
	return slices.IndexFunc(c, func(x cell) bool { return x.heading == heading })
}

func (c cells) headings() []string {
	var all []string
	for _, x := range c {
		all = append(all, x.heading)
	}
	return all
}

// narrowHeadings are the columns of the default table.
func narrowHeadings(kind string) []string {
	switch kind {
	case api.KindBGPConfiguration:
		return []string{"NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"}
	case api.KindBGPFilter:
		return []string{"NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"}
	case api.KindBGPPeer:
		return []string{"NAME", "PEERIP", "NODE", "ASN"}
	case api.KindClusterInformation:
		return []string{"NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"}
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy:
		return []string{"NAME", "TIER"}
	case api.KindBlockAffinity:
		return []string{"NAME", "NODE", "CIDR", "STATE"}
	case api.KindCalicoNodeStatus, api.KindHostEndpoint:
		return []string{"NAME", "NODE"}
	case api.KindIPAMConfiguration:
		return []string{"NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"}
	case api.KindIPPool:
		return []string{"NAME", "CIDR", "SELECTOR"}
	case api.KindTier:
		return []string{"NAME", "ORDER"}
	case api.KindWorkloadEndpoint:
		return []string{"WORKLOAD", "NODE", "NETWORKS", "INTERFACE"}
	}
	return []string{"NAME"}
}

// wideHeadings are the columns of the wide table: all but those that only custom-columns shows.
func wideHeadings(kind string, known cells) []string {
	return slices.DeleteFunc(known.headings(), func(h string) bool {
		return h == "NAMESPACE" || kind == api.KindWorkloadEndpoint && h == "ORCHESTRATOR"
	})
}

// cellsOf returns the cells of an object. It alone knows the columns of each kind.
func cellsOf(o api.Object, asNumber func() string) cells {
	name := cell{"NAME", o.Meta().Name}
	if policy, _, ok := api.PolicyOf(o); ok {
		return namespaced(o, cells{name, {"TIER", policy.Tier}, {"ORDER", nilOr(policy.Order)}, {"SELECTOR", policy.Selector}})
	}
	switch o := o.(type) {
	case *api.BGPConfiguration:
		return cells{name, {"LOGSEVERITY", dash(o.Spec.LogSeverityScreen)}, {"MESHENABLED", dashOr(o.Spec.NodeToNodeMeshEnabled)},
			{"ASNUMBER", dashOr(o.Spec.ASNumber)}}
	case *api.BGPFilter:
		return cells{name, {"NUMEXPORTV4", strconv.Itoa(len(o.Spec.ExportV4))}, {"NUMIMPORTV4", strconv.Itoa(len(o.Spec.ImportV4))},
			{"NUMEXPORTV6", strconv.Itoa(len(o.Spec.ExportV6))}, {"NUMIMPORTV6", strconv.Itoa(len(o.Spec.ImportV6))}}
	case *api.BGPPeer:
		return cells{name, {"PEERIP", o.Spec.PeerIP}, {"NODE", peeringNodes(o.Spec)}, {"ASN", asText(o.Spec.ASNumber)}}
	case *api.CalicoNodeStatus:
		return cells{name, {"NODE", o.Spec.Node}, {"CLASSES", strings.Join(o.Spec.Classes, ",")}}
	case *api.ClaimedBlock:
		return cells{name, {"NODE", o.Spec.Node}, {"CIDR", o.Spec.CIDR}, {"STATE", o.Spec.State}, {"DELETED", o.Spec.Deleted}}
	case *api.ClusterInformation:
		return cells{name, {"CLUSTERGUID", o.Spec.ClusterGUID}, {"CLUSTERTYPE", o.Spec.ClusterType},
			{"CALICOVERSION", o.Spec.CalicoVersion}, {"DATASTOREREADY", nilOr(o.Spec.DatastoreReady)}}
	case *api.GlobalNetworkSet:
		return cells{name, {"NETS", joinAndCut(o.Spec.Nets, ",", 80)}}
	case *api.HostEndpoint:
		return cells{name, {"NODE", o.Spec.Node}, {"INTERFACE", o.Spec.InterfaceName},
			{"IPS", strings.Join(o.Spec.ExpectedIPs, ",")}, {"PROFILES", strings.Join(o.Spec.Profiles, ",")}}
	case *api.IPAMConfiguration:
		return cells{name, {"STRICTAFFINITY", strconv.FormatBool(o.Spec.StrictAffinity)},
			{"AUTOALLOCATEBLOCKS", strconv.FormatBool(o.Spec.AutoAllocateBlocks)}, {"MAXBLOCKSPERHOST", nilOr(o.Spec.MaxBlocksPerHost)}}
	case *api.IPReservation:
		return cells{name, {"CIDRS", strings.Join(o.Spec.ReservedCIDRs, ",")}}
	case *api.IPPool:
		return poolCells(name, o.Spec)
	case *api.NetworkSet:
		return namespaced(o, cells{name, {"NETS", joinAndCut(o.Spec.Nets, ",", 80)}})
	case *api.Node:
		return nodeCells(name, o.Spec.BGP, asNumber)
	case *api.Profile:
		return cells{name, {"LABELS", labelsText(o.Spec.LabelsToApply)}}
	case *api.StagedKubernetesNetworkPolicy:
		return namespaced(o, cells{name, {"PODSELECTOR", podSelectorText(o.Spec.PodSelector)}})
	case *api.Tier:
		return cells{name, {"ORDER", nilOr(o.Spec.Order)}}
	case *api.WorkloadEndpoint:
		return workloadCells(o)
	}
	return cells{name}
}

// namespaced puts the namespace in front of the cells of an object that has one.
func namespaced(o api.Object, c cells) cells {
	if kind, _ := api.KindOf(o.Type().Kind); !kind.Namespaced {
		return c
	}
	return append(cells{{"NAMESPACE", o.Meta().Namespace}}, c...)
}

// podSelectorText writes a selector of Kubernetes in the selector language of Calico.
func podSelectorText(s api.LabelSelector) string {
	var terms []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		terms = append(terms, fmt.Sprintf("%s == '%s'", k, s.MatchLabels[k]))
	}
	for _, r := range s.MatchExpressions {
		values := "{'" + strings.Join(r.Values, "', '") + "'}"
		switch r.Operator {
		case "In":
			terms = append(terms, r.Key+" in "+values)
		case "NotIn":
			terms = append(terms, r.Key+" not in "+values)
		case "Exists":
			terms = append(terms, "has("+r.Key+")")
		case "DoesNotExist":
			terms = append(terms, "!has("+r.Key+")")
		}
	}
	if len(terms) == 0 {
		return "all()"
	}
	return strings.Join(terms, " && ")
}

func poolCells(name cell, p api.IPPoolSpec) cells {
	return cells{name, {"CIDR", p.CIDR}, {"NAT", strconv.FormatBool(p.NATOutgoing)}, {"IPIPMODE", p.IPIPMode}, {"VXLANMODE", p.VXLANMode},
		{"DISABLED", strconv.FormatBool(p.Disabled)}, {"DISABLEBGPEXPORT", strconv.FormatBool(p.DisableBGPExport)},
		{"SELECTOR", p.NodeSelector}, {"ASSIGNMENTMODE", nilOr(p.AssignmentMode)}}
}

// nodeCells shows the AS number in parentheses when it is not the node's own.
func nodeCells(name cell, bgp *api.NodeBGPSpec, asNumber func() string) cells {
	as, ipv4, ipv6 := "", "", ""
	if bgp != nil {
		ipv4, ipv6 = bgp.IPv4Address, bgp.IPv6Address
		if bgp.ASNumber != nil {
			as = asText(*bgp.ASNumber)
		} else {
			as = "(" + asNumber() + ")"
		}
	}
	return cells{name, {"ASN", as}, {"IPV4", ipv4}, {"IPV6", ipv6}}
}

func workloadCells(o *api.WorkloadEndpoint) cells {
	workload := o.Spec.Workload
	if workload == "" {
		workload = o.Spec.Pod
	}
	var nats []string
	for _, n := range o.Spec.IPNATs {
		nats = append(nats, fmt.Sprint(n))
	}
	return cells{{"NAMESPACE", o.Namespace}, {"NAME", o.Name}, {"WORKLOAD", workload}, {"NODE", o.Spec.Node},
		{"NETWORKS", strings.Join(o.Spec.IPNetworks, ",")}, {"INTERFACE", o.Spec.InterfaceName},
		{"PROFILES", strings.Join(o.Spec.Profiles, ",")}, {"NATS", strings.Join(nats, ",")},
		{"ORCHESTRATOR", o.Spec.Orchestrator}}
}

func peeringNodes(p api.BGPPeerSpec) string {
	switch {
	case p.Node != "":
		return p.Node
	case p.NodeSelector != "":
		return p.NodeSelector
	}
	return "(global)"
}

func asText(as api.ASNumber) string { return strconv.FormatUint(uint64(as), 10) }

// nilOr formats the value of a pointer, or "<nil>".
func nilOr[T any](p *T) string {
	if p == nil {
		return "<nil>"
	}
	return fmt.Sprint(*p)
}

func dashOr[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func labelsText(labels map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ",")
}

// joinAndCut joins the items and cuts the text at a length; 0 is no limit.
func joinAndCut(items []string, separator string, limit int) string {
	text := strings.Join(items, separator)
	if limit > 0 && len(text) > limit {
		return text[:limit-len("...")] + "..."
	}
	return text
}
