package main

import (
	"net/netip"
	"testing"

	"github.com/margay-project/margay/dataplane"
)

// Routes to other nodes have a gateway and an interface of their own, as those of Calico's status.
func TestRoutesOfFelixInTheStatusOfANode(t *testing.T) {
	t.Parallel()
	type row struct{ Type, Gateway, Interface, From string }
	for name, c := range map[string]struct {
		route dataplane.Route
		want  row
	}{
		"workload":   {dataplane.Route{Kind: "workload", Interface: "cali1", State: "programmed"}, row{"FIB", "N/A", "cali1", "Kernel"}},
		"black hole": {dataplane.Route{Kind: "blackhole", State: "programmed"}, row{"FIB", "N/A", "blackhole", "Static"}},
		"other node": {dataplane.Route{Kind: "node", Interface: "198.51.100.2 rack", State: "programmed"}, row{"FIB", "198.51.100.2", "rack", "Kernel"}},
		"no way yet": {dataplane.Route{Kind: "node", State: "not used"}, row{"RIB", "N/A", "", "Kernel"}},
	} {
		c.route.Destination = netip.MustParsePrefix("10.65.0.0/26")
		got := ownRoutes([]dataplane.Route{c.route, {Kind: "bgp", Destination: c.route.Destination}})
		if len(got) != 1 {
			t.Fatalf("%s: %v", name, got)
		}
		if r := (row{got[0].Type, got[0].Gateway, got[0].Interface, got[0].LearnedFrom.SourceType}); r != c.want {
			t.Errorf("%s: %v, want %v", name, r, c.want)
		}
	}
}
