package calc

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// The corpora are verdicts recorded from the reference implementation, see testdata/README.md. They are compared as far
// as the kinds and criteria in them are enforced; the rest is counted.

type scenario struct {
	ID        string            `json:"id"`
	Manifests []json.RawMessage `json:"manifests"`
	Probes    []probe           `json:"probes"`
}

type probe struct {
	Endpoint, Namespace, Direction, Path, Verdict, DecidedBy string
	Src, Dst                                                 netip.Addr
	Protocol, ICMPType, ICMPCode                             uint8
	SrcPort, DstPort                                         uint16
	PassedBy                                                 []string
}

func TestVerdictsAreThoseOfTheReference(t *testing.T) {
	for _, corpus := range []string{"policy", "hostpolicy"} {
		t.Run(corpus, func(t *testing.T) {
			t.Parallel()
			scenarios, probes, differ := 0, 0, 0
			skipped := map[string]int{}
			eachScenario(t, "testdata/"+corpus+".jsonl.gz", func(s scenario) {
				updates, why := s.objects(t)
				if why != "" {
					skipped[why]++
					return
				}
				scenarios, probes = scenarios+1, probes+len(s.Probes)
				differ += s.compare(t, updates)
			})
			t.Logf("%s: compared %d probes of %d scenarios, %d differ on purpose; scenarios left out: %v", corpus, probes, scenarios, differ, skipped)
			if scenarios == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}

func eachScenario(t *testing.T, file string, f func(scenario)) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	text, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var s scenario
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		f(s)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// objects decodes the manifests, or says why not.
func (s scenario) objects(t *testing.T) (updates []api.Update, why string) {
	add := func(kind string, text []byte) bool {
		object, known := api.New(kind)
		if !known {
			return false
		}
		if err := json.Unmarshal(text, object); err != nil {
			t.Fatalf("%s: %v", s.ID, err)
		}
		if tier, ok := object.(*api.Tier); ok && tier.Spec.Order == nil {
			order := 1000000.0
			tier.Spec.Order = &order
		}
		updates = append(updates, api.Update{Key: api.KeyOf(object), Object: object})
		return true
	}
	for _, builtIn := range []string{
		`{"kind": "Tier", "metadata": {"name": "default"}, "spec": {"order": 1000000, "defaultAction": "Deny"}}`,
		`{"kind": "Tier", "metadata": {"name": "kube-admin"}, "spec": {"order": 1000, "defaultAction": "Pass"}}`,
		`{"kind": "Tier", "metadata": {"name": "kube-baseline"}, "spec": {"order": 10000000, "defaultAction": "Pass"}}`,
	} {
		add("Tier", []byte(builtIn))
	}
	for _, text := range s.Manifests {
		var kind api.TypeMeta
		if err := json.Unmarshal(text, &kind); err != nil {
			t.Fatalf("%s: %v", s.ID, err)
		}
		if !add(kind.Kind, text) {
			return nil, "kinds to come"
		}
	}
	return updates, ""
}

// onPurpose says why our verdict on a packet is another; docs/compatibility.md lists these. Each must really differ.
func onPurpose(scenario string, p probe) string {
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

// compare says how many probes differ on purpose.
func (s scenario) compare(t *testing.T, updates []api.Update) (differ int) {
	states := map[string]*State{}
	for _, p := range s.Probes {
		node, _, _ := strings.Cut(p.Endpoint, "-")
		if states[node] == nil {
			states[node] = Compute(node, Facts{}, updates)
			g, folded := New(node, Facts{}), &State{}
			for i, u := range updates {
				if g.Update(u); i%3 == 0 {
					folded.Fold(g.Flush())
				}
			}
			folded.Fold(g.Flush())
			if diff := differences(states[node], folded, false); diff != "" {
				t.Errorf("%s: Compute (-) and Graph (+) differ:\n%s", s.ID, diff)
			}
		}
		verdict, decidedBy, passedBy := p.judge(states[node])
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

// judge runs the stages that the probe's packet goes through, and words the result as the corpus does.
func (p probe) judge(s *State) (verdict, decidedBy string, passedBy []string) {
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
			if kind := v.Rule.Policy.Kind; kind != KindProfile && kind != KindEnd {
				decidedBy = prefix(stage) + decidedBy
			}
			return strings.ToLower(string(v.Action)), decidedBy, passedBy
		}
	}
	return "allow", "end of forward policy", passedBy
}
