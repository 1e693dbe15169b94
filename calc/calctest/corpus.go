// Package calctest holds verdicts recorded from the reference implementation, for the tests of everything that judges
// packets. See testdata/README.md.
package calctest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/api"
)

//go:embed testdata/*.jsonl.gz
var recorded embed.FS

// Scenario is a set of objects and packets at endpoints of theirs.
type Scenario struct {
	ID        string
	Manifests []json.RawMessage
	Probes    []Probe

	Updates []api.Update `json:"-"` // the manifests, and the tiers that every datastore has
}

// Probe is a packet at one endpoint, and its verdict.
type Probe struct {
	Endpoint, Namespace, Direction, Path, Verdict, DecidedBy string
	Src, Dst                                                 netip.Addr
	Protocol, ICMPType, ICMPCode                             uint8
	SrcPort, DstPort                                         uint16
	PassedBy                                                 []string
}

// Scenarios reads one of the corpora: policy, or hostpolicy.
func Scenarios(corpus string) (all []Scenario, err error) {
	packed, err := recorded.ReadFile("testdata/" + corpus + ".jsonl.gz")
	if err != nil {
		return nil, err
	}
	text, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var s Scenario
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, err
		}
		if err := s.decode(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.ID, err)
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

const builtInTiers = `[
	{"kind": "Tier", "metadata": {"name": "default"}, "spec": {"order": 1000000, "defaultAction": "Deny"}},
	{"kind": "Tier", "metadata": {"name": "kube-admin"}, "spec": {"order": 1000, "defaultAction": "Pass"}},
	{"kind": "Tier", "metadata": {"name": "kube-baseline"}, "spec": {"order": 10000000, "defaultAction": "Pass"}}]`

func (s *Scenario) decode() error {
	var manifests []json.RawMessage
	if err := json.Unmarshal([]byte(builtInTiers), &manifests); err != nil {
		return err
	}
	for _, text := range append(manifests, s.Manifests...) {
		var kind api.TypeMeta
		if err := json.Unmarshal(text, &kind); err != nil {
			return err
		}
		object, known := api.New(kind.Kind)
		if !known {
			return fmt.Errorf("kind %s is not known", kind.Kind)
		}
		if err := json.Unmarshal(text, object); err != nil {
			return err
		}
		if tier, ok := object.(*api.Tier); ok && tier.Spec.Order == nil {
			order := 1000000.0
			tier.Spec.Order = &order
		}
		s.Updates = append(s.Updates, api.Update{Key: api.KeyOf(object), Object: object})
	}
	return nil
}
