package calc

import (
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc/calctest"
)

// TestVerdictsAreThoseOfTheReference compares Judge with the recorded verdicts, on the States of Compute and Graph.
func TestVerdictsAreThoseOfTheReference(t *testing.T) {
	for _, corpus := range []string{"policy", "hostpolicy"} {
		t.Run(corpus, func(t *testing.T) {
			t.Parallel()
			scenarios, err := calctest.Scenarios(corpus)
			if err != nil {
				t.Fatal(err)
			}
			probes, differ := 0, 0
			for _, s := range scenarios {
				probes += len(s.Probes)
				differ += compare(t, s)
			}
			t.Logf("%s: compared %d probes of %d scenarios, %d differ on purpose", corpus, probes, len(scenarios), differ)
			if probes == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}

// onPurpose says why our verdict on a packet differs from the reference's; empty: it must not. docs/compatibility.md lists the reasons.
func onPurpose(scenario string, p calctest.Probe) string {
	const notICMP = "a packet that is no ICMP cannot violate notICMP; the reference compares it with type 0"
	if p.Protocol != 47 {
		return ""
	}
	switch scenario + " " + p.Endpoint + " " + p.Direction + " " + p.Dst.String() {
	case "pol-0408 n2-vmm-w6-eth0 ingress fd00:65::60", "pol-0408 n1-vmm-w5-eth0 ingress 10.65.0.53",
		"pol-0408 n1-vmm-w1-eth0 ingress fd00:65::15", "pol-0570 n1-vmm-w5-eth0 egress 198.19.255.255":
		return notICMP
	}
	return ""
}

// compare compares all probes of a scenario, and returns how many differ on purpose.
func compare(t *testing.T, s calctest.Scenario) (differ int) {
	states := map[string]*State{}
	for _, p := range s.Probes {
		node, _, _ := strings.Cut(p.Endpoint, "-")
		if states[node] == nil {
			states[node] = Compute(node, Facts{}, s.Updates)
			g, folded := New(node, Facts{}), &State{}
			for i, u := range s.Updates {
				if g.Update(u); i%3 == 0 {
					folded.Fold(g.Flush())
				}
			}
			folded.Fold(g.Flush())
			if diff := differences(states[node], folded, false); diff != "" {
				t.Errorf("%s: Compute (-) and Graph (+) differ:\n%s", s.ID, diff)
			}
		}
		verdict, decidedBy, passedBy := judgeProbe(states[node], p)
		same := verdict == p.Verdict && decidedBy == p.DecidedBy && slices.Equal(passedBy, p.PassedBy)
		switch why := onPurpose(s.ID, p); {
		case why != "" && same:
			t.Errorf("%s: %+v agrees, although %s", s.ID, p, why)
		case why != "":
			differ++
		case !same:
			t.Errorf("%s: %+v\ngot %s by %s, passed by %q", s.ID, p, verdict, decidedBy, passedBy)
		}
	}
	return differ
}

// judgeProbe runs the stages that the probe's packet goes through, and words the result as the corpus does.
func judgeProbe(s *State, p calctest.Probe) (verdict, decidedBy string, passedBy []string) {
	packet := Packet{
		Source: p.Src, Destination: p.Dst, Protocol: p.Protocol,
		SourcePort: p.SrcPort, DestinationPort: p.DstPort, ICMPType: p.ICMPType, ICMPCode: p.ICMPCode,
	}
	dir := Ingress
	if p.Direction == "egress" {
		dir = Egress
	}
	ep := EndpointID{Kind: "WorkloadEndpoint", Namespace: p.Namespace, Name: p.Endpoint}
	stages, prefix := []Stage{Normal}, func(Stage) string { return "" }
	if p.Path != "" {
		ep.Kind = "HostEndpoint"
		stages, prefix = []Stage{Untracked, PreDNAT, Normal}, func(s Stage) string { return s.String() + ": " }
		if p.Path == "forward" {
			stages[2] = Forward
		}
	}
	for _, stage := range stages {
		v := Judge(s, ep, stage, dir, packet)
		for _, r := range v.Passed {
			passedBy = append(passedBy, prefix(stage)+r.String())
		}
		if v.Action != "" {
			decidedBy = v.Rule.String()
			if kind := v.Rule.Policy.Kind; kind != api.KindProfile && kind != KindEnd {
				decidedBy = prefix(stage) + decidedBy
			}
			return strings.ToLower(string(v.Action)), decidedBy, passedBy
		}
	}
	return "allow", "end of forward policy", passedBy
}
