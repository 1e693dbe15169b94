package bgp_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// A peer that has sent too many routes stays closed when the BGP process ends and starts again.
func TestALimitOutlivesTheProcessOfTheSpeaker(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS)) // it sends two IPv4 routes
	s := run(t, l.host, "supervised speaker")
	n := node(routerAS)
	changePeer(&n, func(p *calc.Peer) { p.MaxPrefixes = 1 })
	s.apply(t, n)
	closed := func() error {
		st := s.status(t)
		if len(st) != 2 || st[0].State != "Failed" || !strings.Contains(st[0].Why, "sent more than 1 routes") || st[1].State != "Established" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	}
	lab.Await(t, closed)
	since := sessionSince(t, b, "session4")
	for range 2 {
		before := childrenOf(t, s)
		for _, pid := range before {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		lab.Await(t, func() error {
			if now := childrenOf(t, s); len(now) == 0 || slices.Equal(now, before) {
				return errors.New("the process has not started again")
			}
			return closed()
		})
	}
	if now := sessionSince(t, b, "session4"); now.Sub(since).Abs() > 100*time.Millisecond { // BIRD adds two clocks up and rounds
		t.Errorf("the router had a session with the new process: its state is from %s, before it was from %s", now, since)
	}
	changePeer(&n, func(p *calc.Peer) { p.MaxPrefixes = 2 })
	s.apply(t, n)
	lab.Await(t, func() error {
		if st := s.status(t); st[0].State != "Established" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// childrenOf returns the processes that a supervised speaker has started.
func childrenOf(t *testing.T, s *process) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// sessionSince returns the time of the last change of a session of BIRD between down and up.
func sessionSince(t *testing.T, b *router.BIRD, session string) (since time.Time) {
	t.Helper()
	out, err := b.Ask("show protocols " + session)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasSuffix(fields[0], session) {
			if since, err = time.Parse("15:04:05.000", fields[4]); err != nil {
				t.Fatal(err)
			}
			return since
		}
	}
	t.Fatalf("BIRD says nothing of %s:\n%s", session, out)
	return since
}
