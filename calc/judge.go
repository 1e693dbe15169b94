package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// Judge says what the policies of an endpoint do with a packet, at one stage and in one direction.
//
// It is the definition of a verdict: it loops over tiers, policies, rules and set members, and is written to be compared with Calico's
// reference, not to be fast. The classifier and the kernel's program are tested against it.
//
//   - Normal: the tiers, then the endpoint's profiles, then the end of profiles denies.
//   - Forward: the tiers with their defaults; undecided if no policy applies.
//   - PreDNAT, Untracked: only rules, no defaults of tiers; undecided if no rule matches.
//
// At a closed endpoint everything is denied, and no rule is named for it. Only a host endpoint's failsafes still allow; its stages PreDNAT
// and Untracked stay undecided. At an unknown endpoint everything is denied.
func Judge(s *State, ep EndpointID, stage Stage, dir Direction, p Packet) Verdict {
	e, known := s.Endpoints[ep]
	if !known {
		return Verdict{Action: api.Deny}
	}
	j := judgement{state: s, stage: stage, dir: dir, packet: p}
	for _, tier := range e.Policies[stage][dir] {
		if j.tier(tier) {
			return j.verdict
		}
	}
	if e.Closed != "" && (stage == Normal || stage == Forward) {
		return Verdict{Action: api.Deny}
	}
	if stage != Normal {
		return j.verdict
	}
	for _, name := range e.Profiles {
		if j.profile(name) {
			return j.verdict
		}
	}
	return j.decide(api.Deny, RuleID{Policy: PolicyID{Kind: KindEnd}, Direction: dir, Index: -1})
}

// judgement is one packet on its way through an endpoint's lists.
type judgement struct {
	state   *State
	stage   Stage
	dir     Direction
	packet  Packet
	verdict Verdict
}

// tier reports whether the tier decided. A failsafe list has no name and no end; a Pass in it leaves the stage undecided.
func (j *judgement) tier(t TierPolicies) bool {
	for _, id := range t.Policies {
		action, rule := j.firstMatch(id, t.Tier)
		switch action {
		case api.Pass:
			j.verdict.Passed = append(j.verdict.Passed, rule)
			return t.Tier == ""
		case api.Allow, api.Deny:
			j.decide(action, rule)
			return true
		}
	}
	if t.Tier == "" || j.stage == PreDNAT || j.stage == Untracked {
		return false
	}
	end := RuleID{Policy: PolicyID{Kind: api.KindTier, Name: t.Tier}, Tier: t.Tier, Direction: j.dir, Index: -1}
	if tier, known := j.state.Tiers[t.Tier]; known && !tier.Missing && tier.Default == api.Pass {
		j.verdict.Passed = append(j.verdict.Passed, end)
		return false
	}
	j.decide(api.Deny, end)
	return true
}

// profile reports whether the profile decided. There is nothing to pass to, so Pass denies.
func (j *judgement) profile(name string) bool {
	action, rule := j.firstMatch(PolicyID{Kind: api.KindProfile, Name: name}, "")
	switch action {
	case api.Allow:
		j.decide(api.Allow, rule)
	case api.Deny, api.Pass:
		j.decide(api.Deny, rule)
	}
	return action != ""
}

func (j *judgement) decide(a api.Action, by RuleID) Verdict {
	j.verdict.Action, j.verdict.Rule = a, by
	return j.verdict
}

// firstMatch finds the first rule of a policy that matches, without those that only log.
func (j *judgement) firstMatch(id PolicyID, tier string) (api.Action, RuleID) {
	policy := j.state.Policies[id]
	rules := policy.Ingress
	if j.dir == Egress {
		rules = policy.Egress
	}
	for i, r := range rules {
		if r.Action != api.Log && r.Matches(j.packet, j.state.Sets) {
			return r.Action, RuleID{Policy: id, Tier: tier, Direction: j.dir, Index: i}
		}
	}
	return "", RuleID{}
}

// Matches reports whether a packet meets all the criteria of a rule.
func (r Rule) Matches(p Packet, sets map[SetID]Members) bool {
	switch {
	case r.Never:
		return false
	case p.Source.Is4() && !r.V4, p.Source.Is6() && !r.V6:
		return false
	case r.Protocol != 0 && p.Protocol != r.Protocol:
		return false
	case r.NotProtocol != 0 && p.Protocol == r.NotProtocol:
		return false
	case r.ICMP != nil && !r.ICMP.matches(p):
		return false
	case r.NotICMP != nil && r.NotICMP.matches(p):
		return false
	}
	return r.Source.matches(p.Source, p.SourcePort, p.Protocol, sets) &&
		r.Destination.matches(p.Destination, p.DestinationPort, p.Protocol, sets)
}

// matches reports whether an address and a port meet all criteria of one side. A packet of a
// protocol without ports is in no list of ports.
func (m Match) matches(a netip.Addr, port uint16, protocol uint8, sets map[SetID]Members) bool {
	contains := func(n netip.Prefix) bool { return n.Contains(a) }
	within := func(r PortRange) bool { return r.First <= port && port <= r.Last }
	named := func(n NamedPort) bool { return n.matches(protocol, port) && sets[n.Set].Contain(a) }
	switch {
	case len(m.Nets) > 0 && !slices.ContainsFunc(m.Nets, contains):
		return false
	case slices.ContainsFunc(m.NotNets, contains):
		return false
	case m.Set != "" && !sets[m.Set].Contain(a):
		return false
	case m.NotSet != "" && sets[m.NotSet].Contain(a):
		return false
	case (len(m.Ports) > 0 || m.Names != nil) &&
		!(HasPorts(protocol) && slices.ContainsFunc(m.Ports, within) || m.Names.matches(named)):
		return false
	case HasPorts(protocol) && slices.ContainsFunc(m.NotPorts, within) || m.NotNames.matches(named):
		return false
	}
	return true
}

func (i ICMP) matches(p Packet) bool {
	if p.Protocol != protocolICMP && p.Protocol != protocolICMPv6 {
		return false
	}
	return (i.Type < 0 || i.Type == int16(p.ICMPType)) && (i.Code < 0 || i.Code == int16(p.ICMPCode))
}

// Contain reports whether one of the members contains the address. Members are masked (no host bits).
func (m Members) Contain(a netip.Addr) bool {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if p, err := a.Prefix(bits); err == nil {
			if _, in := m[p]; in {
				return true
			}
		}
	}
	return false
}

const (
	protocolICMP    = 1
	protocolTCP     = 6
	protocolUDP     = 17
	protocolICMPv6  = 58
	protocolSCTP    = 132
	protocolUDPLite = 136
)

// HasPorts reports whether a protocol has ports: TCP, UDP, SCTP and UDPLite.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case protocolTCP, protocolUDP, protocolSCTP, protocolUDPLite:
		return true
	}
	return false
}
