package bgp_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// lines returns the output of a process line by line.
func (p *process) lines() <-chan string {
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for {
			line, err := p.out.ReadString('\n')
			if err != nil {
				return
			}
			lines <- strings.TrimSpace(line)
		}
	}()
	return lines
}

// expectLines waits for lines in any order.
func expectLines(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	deadline := time.After(lab.Patience)
	for len(missing) > 0 {
		select {
		case line := <-lines:
			if !missing[line] {
				t.Fatalf("the router printed %q, want %v", line, missing)
			}
			delete(missing, line)
		case <-deadline:
			t.Fatalf("the router did not print %v", missing)
		}
	}
}

func TestRouterInGoPrintsLearnedRoutes(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	r := run(t, l.router, "router")
	lines := r.lines()
	err := json.NewEncoder(r.in).Encode(router.Config{AS: routerAS, RouterID: addr(router4), Neighbours: []router.Neighbour{
		{Address: addr(host4), AS: hostAS}, {Address: addr(host6), AS: hostAS},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := run(t, l.host, "speaker")
	s.apply(t, node(routerAS))
	expectLines(t, lines, "+ "+block4, "+ "+block6)
	s.apply(t, without(node(routerAS), block4))
	expectLines(t, lines, "- "+block4)
	s.apply(t, node(routerAS))
	expectLines(t, lines, "+ "+block4)

	s.waitUp(t)
	s.Kill()
	s = run(t, l.host, "restarted speaker")
	s.apply(t, node(routerAS))
	s.waitUp(t)
	changed := without(node(routerAS))
	changed.Paths[prefix("192.0.2.1/32")] = calc.Path{Reason: "borrowed"}
	s.apply(t, changed)
	for line := range lines { // a repeated announcement is no change; a withdrawal is one
		if strings.HasPrefix(line, "-") {
			t.Errorf("after the restart the router printed %q", line)
		}
		if line == "+ 192.0.2.1/32" {
			break
		}
	}
}
