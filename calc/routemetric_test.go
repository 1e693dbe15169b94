package calc

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

func TestRouteMetricsAreThoseOfFelixConfiguration(t *testing.T) {
	t.Parallel()
	config := func(v4, v6 int) []api.Update {
		c := &api.FelixConfiguration{Metadata: api.Metadata{Name: "default"}, Spec: api.FelixConfigurationSpec{IPv4NormalRoutePriority: &v4, IPv6NormalRoutePriority: &v6}}
		key := api.Key{Kind: api.KindFelixConfiguration, Name: "default"}
		return []api.Update{{Key: key, Object: c}}
	}
	s := Compute("n1", Facts{}, config(7, 2147483646))
	if s.Config.RouteMetric4 != 7 || s.Config.RouteMetric6 != 2147483646 || strings.Contains(s.Text(), "RoutePriority 7 is ignored") {
		t.Errorf("metrics %d and %d\n%s", s.Config.RouteMetric4, s.Config.RouteMetric6, s.Text())
	}
	s = Compute("n1", Facts{}, config(0, 2147483647)) // another program may write such numbers
	if s.Config.RouteMetric4 != 0 || s.Config.RouteMetric6 != 0 || !strings.Contains(s.Text(), "ipv4NormalRoutePriority 0 is ignored") ||
		!strings.Contains(s.Text(), "ipv6NormalRoutePriority 2147483647 is ignored") {
		t.Errorf("metrics %d and %d\n%s", s.Config.RouteMetric4, s.Config.RouteMetric6, s.Text())
	}
}
