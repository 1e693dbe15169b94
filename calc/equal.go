package calc

import (
	"maps"
	"reflect"
	"slices"
)

// Equality of the values in a State. Slices that share their memory are equal without a look at their elements.

func (p Policy) equal(q Policy) bool {
	return p.ID == q.ID && p.Tier == q.Tier && p.Order == q.Order && sameList(p.Ingress, q.Ingress, (*Rule).equal) &&
		sameList(p.Egress, q.Egress, (*Rule).equal)
}

func (r *Rule) equal(s *Rule) bool {
	return r.Action == s.Action && r.Never == s.Never && r.V4 == s.V4 && r.V6 == s.V6 && r.Protocol == s.Protocol &&
		r.NotProtocol == s.NotProtocol && samePointed(r.ICMP, s.ICMP) && samePointed(r.NotICMP, s.NotICMP) &&
		r.Source.equal(&s.Source) && r.Destination.equal(&s.Destination)
}

func (m *Match) equal(n *Match) bool {
	return m.Set == n.Set && m.NotSet == n.NotSet && slices.Equal(m.Nets, n.Nets) && slices.Equal(m.NotNets, n.NotNets) &&
		slices.Equal(m.Ports, n.Ports) && slices.Equal(m.NotPorts, n.NotPorts) &&
		m.Names.equal(n.Names) && m.NotNames.equal(n.NotNames)
}

func (e Endpoint) equal(f Endpoint) bool {
	if e.ID != f.ID || e.Interface != f.Interface || e.MAC != f.MAC || e.Hostname != f.Hostname || e.OwnDHCP != f.OwnDHCP || e.Closed != f.Closed ||
		!slices.Equal(e.Addresses, f.Addresses) || !slices.Equal(e.SourceNets, f.SourceNets) || !slices.Equal(e.Profiles, f.Profiles) {
		return false
	}
	return sameLists(e.Policies, f.Policies)
}

func sameLists(a, b [Stages][2][]TierPolicies) bool {
	for stage := range a {
		for dir := range a[stage] {
			if !sameList(a[stage][dir], b[stage][dir], (*TierPolicies).equal) {
				return false
			}
		}
	}
	return true
}

func (t *TierPolicies) equal(u *TierPolicies) bool {
	return t.Tier == u.Tier && slices.Equal(t.Policies, u.Policies)
}

func (b BGP) equal(c BGP) bool {
	return b.AS == c.AS && b.RouterID == c.RouterID && b.ListenPort == c.ListenPort && b.BindNodeIP == c.BindNodeIP && b.ClusterID == c.ClusterID && b.V4 == c.V4 && b.V6 == c.V6 &&
		b.Metric4 == c.Metric4 && b.Metric6 == c.Metric6 && b.NoPools == c.NoPools &&
		reflect.DeepEqual(b.Transit, c.Transit) && maps.EqualFunc(b.Peers, c.Peers, Peer.Equal) && maps.EqualFunc(b.Paths, c.Paths, Path.equal) &&
		maps.Equal(b.Unreached, c.Unreached)
}

func (p Path) equal(q Path) bool {
	return p.Reason == q.Reason && p.Interface == q.Interface && slices.Equal(p.Communities, q.Communities)
}

func (c Config) equal(d Config) bool {
	return maps.Equal(c.Raw, d.Raw) && maps.Equal(c.Sources, d.Sources) && slices.Equal(c.InterfacePrefixes, d.InterfacePrefixes) && c.ToHost == d.ToHost &&
		c.AllowVXLAN == d.AllowVXLAN && c.AllowIPIP == d.AllowIPIP && c.FlowTableSize == d.FlowTableSize &&
		c.LogLevel == d.LogLevel && c.ScreenLevel == d.ScreenLevel && c.Timeouts == d.Timeouts &&
		c.DeviceRouteProtocol == d.DeviceRouteProtocol && c.RouteMetric4 == d.RouteMetric4 && c.RouteMetric6 == d.RouteMetric6 && c.ClusterRoutes == d.ClusterRoutes &&
		c.BridgedNotIP == d.BridgedNotIP && c.DHCP == d.DHCP && c.SourceNets == d.SourceNets && c.Resolvers.Set == d.Resolvers.Set && slices.Equal(c.Resolvers.Addresses, d.Resolvers.Addresses)
}

// sameList compares slices, fast if they share their memory.
func sameList[T any](a, b []T, equal func(a, b *T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if !equal(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func samePointed[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
