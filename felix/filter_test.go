package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// The filters of one host's session with another take effect as their objects change: in both directions, without a reset of the session.
// A filter that is deleted lets nothing pass.
func TestBGPFiltersTakeEffectWhenTheirObjectsChange(t *testing.T) {
	one, two := newRack(t)
	filter := func(imports, exports string) {
		one.apply(fmt.Sprintf("kind: BGPFilter\napiVersion: projectcalico.org/v3\nmetadata: {name: f}\nspec: {importV4: [%s], exportV4: [%s]}\n", imports, exports))
	}
	filter("", "")
	one.apply("kind: BGPPeer\napiVersion: projectcalico.org/v3\nmetadata: {name: two}\nspec: {node: host1, peerIP: 198.51.100.2, asNumber: 64512, filters: [f]}\n")
	f1 := one.start("FELIX_IP=198.51.100.1/24")
	two.start("FELIX_IP=198.51.100.2/24")
	one.plug("a", "10.65.0.2")
	two.plug("b", "10.65.0.66")
	const hears, isHeard = "10.65.0.64/26 via 198.51.100.2\n", "10.65.0.0/26 via 198.51.100.1\n"
	one.awaitLearned(hears)
	two.awaitLearned(isHeard)
	upSince := func() (since int64) {
		f1.await(func(s *agentv1.StatusResponse) error {
			if err := established(s); err != nil {
				return err
			}
			since = s.Peers[0].Since
			return nil
		})
		return since
	}
	since := upSince()

	const reject = "{action: Reject}"
	filter(reject, "")
	one.awaitLearned("")
	two.awaitLearned(isHeard)
	filter("", "{cidr: 10.65.0.0/16, matchOperator: In, action: Reject}")
	one.awaitLearned(hears)
	two.awaitLearned("")
	filter("{cidr: 10.65.0.64/26, matchOperator: Equal, action: Accept}, "+reject, "{cidr: 10.65.0.0/26, matchOperator: Equal, action: Accept}, "+reject)
	one.awaitLearned(hears)
	two.awaitLearned(isHeard)

	one.delete(api.KindBGPFilter, "", "f")
	one.awaitLearned("")
	two.awaitLearned("")
	f1.await(func(s *agentv1.StatusResponse) error {
		for _, p := range s.Problems {
			if strings.Contains(p.Text, "BGPFilter(f), which filters names, does not exist") {
				return nil
			}
		}
		return fmt.Errorf("problems %v", s.Problems)
	})
	filter("", "")
	one.awaitLearned(hears)
	two.awaitLearned(isHeard)
	if now := upSince(); now != since {
		t.Errorf("the session is up since %d, not %d: it was reset", now, since)
	}
}
