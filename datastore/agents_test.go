package datastore

import (
	"slices"
	"testing"

	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func TestNodesThatRunCalicosAgentAreKnown(t *testing.T) {
	t.Parallel()
	const (
		nodes       = "/calico/resources/v3/projectcalico.org/nodes/"
		plainNode   = `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n"},"spec":{}}`
		information = `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"calicoVersion":"v3.32.0"}}`
		fresh       = `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"clusterGUID":"g"}}`
	)
	for name, c := range map[string]struct {
		keys map[string]string
		want []string
	}{
		"nothing":                  {nil, nil},
		"applied before any agent": {map[string]string{nodes + "a": plainNode, informationKey: fresh}, nil},
		"ours alone":               {map[string]string{nodes + "a": plainNode, informationKey: fresh, recordKey("a"): "{}"}, nil},
		"Calico's, by version":     {map[string]string{nodes + "a": plainNode, nodes + "b": plainNode, informationKey: information}, []string{"a", "b"}},
		"half switched":            {map[string]string{nodes + "a": plainNode, nodes + "b": plainNode, informationKey: information, recordKey("a"): "{}"}, []string{"b"}},
		"all switched":             {map[string]string{nodes + "a": plainNode, informationKey: information, recordKey("a"): "{}"}, nil},
		"Calico's, by its status": {map[string]string{
			"/calico/felix/v2/no-region/host/c/last_reported_status": "{}", "/calico/felix/v1/host/d/endpoint/eth0": "{}",
			"/calico/felix/v2/no-region/host/e/status": "{}", recordKey("e"): "{}",
		}, []string{"c", "d"}},
	} {
		store := kvtest.NewMemory()
		for key, value := range c.keys {
			raw(t, store, key, value)
		}
		got, err := New(store).CalicoNodes(testContext(t))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q %v, want %q", name, got, err, c.want)
		}
	}
}
