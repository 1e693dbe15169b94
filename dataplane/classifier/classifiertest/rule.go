package classifiertest

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// protocols are those that rules and packets have; 47 has neither ports nor types.
var protocols = []uint8{6, 17, 132, 136, 1, 58, 47}

var ports = []uint16{0, 1, 22, 79, 80, 81, 443, 1023, 1024, 8080, 32767, 32768, 65534, 65535}

var types = []uint8{0, 1, 3, 8, 127, 128, 129, 255}

func randomRules(r *rand.Rand, s *calc.State, o Options) []calc.Rule {
	var rules []calc.Rule
	for range r.IntN(o.Rules + 1) {
		rules = append(rules, randomRule(r, s, o))
	}
	return rules
}

func randomRule(r *rand.Rand, s *calc.State, o Options) calc.Rule {
	rule := calc.Rule{Action: randomAction(r, o), V4: true, V6: true}
	switch r.IntN(12) {
	case 0:
		rule.V4 = false
	case 1:
		rule.V6 = false
	case 2:
		if r.IntN(3) == 0 {
			return calc.Rule{Action: rule.Action, Never: true}
		}
	}
	if r.IntN(3) == 0 {
		rule.Protocol = pick(r, protocols)
	}
	if r.IntN(8) == 0 {
		rule.NotProtocol = pick(r, protocols)
	}
	if r.IntN(10) == 0 {
		rule.ICMP = randomICMP(r)
	}
	if r.IntN(10) == 0 {
		rule.NotICMP = randomICMP(r)
	}
	sets := slices.Sorted(maps.Keys(s.Sets))
	rule.Source, rule.Destination = randomMatch(r, sets), randomMatch(r, sets)
	return rule
}

func randomAction(r *rand.Rand, o Options) api.Action {
	switch r.IntN(o.Rare) {
	case 0:
		return api.Pass
	case 1:
		return api.Log
	}
	if r.IntN(2) == 0 {
		return api.Deny
	}
	return api.Allow
}

func randomICMP(r *rand.Rand) *calc.ICMP {
	i := &calc.ICMP{Type: -1, Code: -1}
	if r.IntN(4) > 0 {
		i.Type = int16(pick(r, types))
	}
	if r.IntN(2) > 0 {
		i.Code = int16(pick(r, types))
	}
	return i
}

func randomMatch(r *rand.Rand, sets []calc.SetID) calc.Match {
	var m calc.Match
	if r.IntN(4) == 0 {
		m.Nets = randomNets(r)
	}
	if r.IntN(6) == 0 {
		m.NotNets = randomNets(r)
	}
	if r.IntN(4) == 0 {
		m.Set = pick(r, append(sets, "missing"))
	}
	if r.IntN(6) == 0 {
		m.NotSet = pick(r, append(sets, "missing"))
	}
	if r.IntN(6) == 0 {
		m.Ports = randomRanges(r)
	}
	if r.IntN(8) == 0 {
		m.NotPorts = randomRanges(r)
	}
	if r.IntN(8) == 0 {
		m.Names = randomNames(r, sets)
	}
	if r.IntN(12) == 0 {
		m.NotNames = randomNames(r, sets)
	}
	return m
}

// randomNames are names of ports with the ports that they stand for: several may stand for the same, or for none.
func randomNames(r *rand.Rand, sets []calc.SetID) *calc.PortNames {
	names := &calc.PortNames{}
	for _, name := range []string{"a", "b"} {
		if len(names.Names) > 0 && r.IntN(2) == 0 {
			break
		}
		names.Names = append(names.Names, name)
		for range r.IntN(4) {
			n := calc.NamedPort{Name: name, Protocol: pick(r, protocols[:4]), Port: pick(r, ports), Set: pick(r, append(sets, "missing"))}
			names.Ports = append(names.Ports, n)
		}
	}
	return names
}

func randomNets(r *rand.Rand) []netip.Prefix {
	var nets []netip.Prefix
	for range 1 + r.IntN(3) {
		nets = append(nets, randomNet(r))
	}
	return nets
}

func randomRanges(r *rand.Rand) []calc.PortRange {
	var out []calc.PortRange
	for range 1 + r.IntN(3) {
		out = append(out, randomPorts(r))
	}
	return out
}

func randomPorts(r *rand.Rand) calc.PortRange {
	a, b := pick(r, ports), pick(r, ports)
	if r.IntN(2) == 0 {
		b = a
	}
	return calc.PortRange{First: min(a, b), Last: max(a, b)}
}
