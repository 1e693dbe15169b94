package bgp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// The hold time is 90 s. A session over an interface without a carrier ends before, and its routes go.
func TestALostCarrierEndsTheSession(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]func(*pair) *lab.Host{
		"the cable is pulled out":     func(l *pair) *lab.Host { return l.router },
		"the interface is taken down": func(l *pair) *lab.Host { return l.host },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			lab.Cable(l.host, "other", l.router, "other") // another interface, whose carrier does not matter
			l.host.Up("other", "10.97.0.1/24")
			l.router.Up("other", "10.97.0.2/24")
			router.StartBIRD(t, l.router, t.TempDir(), impatient(birdConfig(routerAS)))
			s := run(t, l.host, "speaker")
			s.apply(t, node(routerAS))
			s.waitUp(t)
			got := learnedBy{}
			lab.Await(t, func() error {
				if !got.from(t, s)[prefix("203.0.113.0/24")] {
					return fmt.Errorf("learned: %v", got)
				}
				return nil
			})
			before := s.status(t)[0].Since
			l.router.Down("other")
			on(l).Down(cable)
			lab.Await(t, func() error {
				for _, st := range s.status(t) {
					if st.State == "Established" || !strings.Contains(st.LastError, "interface cable has lost its carrier") {
						if strings.Contains(st.LastError, "hold timer") {
							t.Fatalf("the session ended late: %+v", st)
						}
						return fmt.Errorf("%+v", st)
					}
				}
				if got.from(t, s)[prefix("203.0.113.0/24")] {
					return fmt.Errorf("still learned: %v", got)
				}
				return nil
			})
			if since := s.status(t)[0].Since; !since.After(before) {
				t.Errorf("the session is down since %v", since)
			}
			l.host.Up(cable)
			l.router.Up(cable)
			lab.Await(t, func() error {
				if st := s.status(t)[0]; st.State != "Established" {
					return fmt.Errorf("%+v", st)
				}
				return nil
			})
		})
	}
}
