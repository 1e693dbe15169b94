package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoutesThatAreMissingForOneReasonAreOneProblem(t *testing.T) {
	l := hopRoutes{name: "learned route", names: "learned routes", refused: map[netip.Prefix]string{}}
	refuse := func(why string, prefixes ...string) {
		for _, p := range prefixes {
			l.refused[netip.MustParsePrefix(p)] = why
		}
	}
	if got := l.problems(); len(got) != 0 {
		t.Errorf("none is missing: %v", got)
	}
	refuse("no way to 192.0.2.7", "203.0.113.0/24")
	refuse("no way to 192.0.2.8", "198.51.100.0/25", "198.51.100.128/25")
	for i := range 4000 {
		refuse("no way to 192.0.2.9", fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}
	for i := range 9 {
		refuse(fmt.Sprintf("reason %d", i), fmt.Sprintf("172.16.%d.0/24", i))
	}
	want := []string{
		"4000 learned routes are not in the kernel, to 10.0.0.0/24, 10.0.1.0/24, 10.0.2.0/24 and 3997 more: no way to 192.0.2.9",
		"2 learned routes are not in the kernel, to 198.51.100.0/25, 198.51.100.128/25: no way to 192.0.2.8",
		"the learned route to 203.0.113.0/24 is not in the kernel: no way to 192.0.2.7",
		"the learned route to 172.16.0.0/24 is not in the kernel: reason 0",
		"the learned route to 172.16.1.0/24 is not in the kernel: reason 1",
		"7 more learned routes are not in the kernel, for other reasons: margayctl dump routes lists them",
	}
	if diff := cmp.Diff(want, l.problems()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
