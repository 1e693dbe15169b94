package bgp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// A peer whose messages end the BGP process is found and closed. The agent goes on, no other peer drops a route of the node meanwhile, and
// the routes of others are learned again.
func TestAPeerThatEndsTheProcessIsClosed(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), impatient(birdConfig(routerAS)))
	messages := deadly()
	n := node(routerAS)
	hostile := map[string]string{"hostile1": "10.99.0.8", "hostile2": "10.99.0.9"}
	for name, address := range hostile {
		l.router.Up(cable, address+"/24")
		n.Peers[name] = calc.Peer{Object: name, Address: addr(address), AS: routerAS, Passive: true}
	}
	changes := followRoutes(l)
	s := run(t, l.host, "supervised speaker")
	s.apply(t, n)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
	changes.await(t, block4, block6)
	isClosed := func(name string) bool {
		for _, st := range s.status(t) {
			if st.Name == name {
				return strings.Contains(st.Why, "a message of this peer ended the BGP process")
			}
		}
		return false
	}
	for i, fault := range []string{"PREFIX_SID with SRv6 of 4 bytes", "header: unknown type"} {
		// The first to attack is not the first to be tried.
		name, m, attempts := []string{"hostile2", "hostile1"}[i], messages[fault], 0
		lab.Await(t, func() error {
			attempts++
			_ = l.router.Do(func() error { return misbehave(addr(hostile[name]), m) })
			if !isClosed(name) {
				return fmt.Errorf("%s is not closed after %d attempts", name, attempts)
			}
			return nil
		})
		t.Logf("%s was closed after %d attempts", name, attempts)
	}
	learned, anew := routes{}, false
	lab.Await(t, func() error {
		a := s.ask(t, request{Learned: true})
		anew = anew || a.Anew
		for prefix, hops := range a.Learned {
			learned[prefix] = hops
		}
		if !a.Complete || len(learned) == 0 {
			return fmt.Errorf("learned: %v, complete is %v", learned, a.Complete)
		}
		return nil
	})
	if !anew {
		t.Error("the new process has not said that it knows nothing of former routes")
	}
	for _, st := range s.status(t) {
		if hostile[st.Name] == "" && (st.State != "Established" || st.Announced == 0) {
			t.Errorf("%+v", st)
		}
	}
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}
}
