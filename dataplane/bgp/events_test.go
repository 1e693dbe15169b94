package bgp

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
)

func TestEachSessionChangeIsLoggedWithPeerCauseAndDuration(t *testing.T) {
	var out bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&out)
	logger.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	f := newFake()
	s := newSpeaker(logrus.NewEntry(logger), Options{}, f)
	n := with(func(n *calc.BGP) {
		n.Peers["Mesh_10_0_0_2"] = calc.Peer{Node: "rack2", Address: addr("10.0.0.2"), AS: 64512}
	})
	apply(t, s, f, n)
	lines := func(why string, want ...string) {
		t.Helper()
		got := out.String()
		out.Reset()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is not in the log:\n%s", why, w, got)
			}
		}
		if len(want) == 0 && got != "" {
			t.Errorf("%s: the log has\n%s", why, got)
		}
	}
	lines("no session has changed")
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	lines("up", `msg="BGP session is up"`, "peer=tor", "as=65000", "after=")
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	lines("the same again")
	s.observe(event{Address: addr("10.0.0.2"), Up: true})
	lines("the mesh is up", `peer="mesh with rack2"`)

	f.errors[addr("10.0.0.9")] = failure{Text: "hold timer expired", At: time.Now()}
	s.observe(event{Address: addr("10.0.0.9"), Up: false})
	lines("down", `msg="BGP session is down"`, "peer=tor", `cause="hold timer expired"`, "wasUp=", "flaps=1")
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	s.observe(event{Address: addr("10.0.0.9"), Up: false})
	lines("down again", "flaps=2")
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	for _, p := range s.Status() {
		if want := map[string]int{"tor": 2}[p.Object]; p.Flaps != want {
			t.Errorf("%s has lost its session %d times, want %d", p.Object, p.Flaps, want)
		}
	}

	out.Reset()
	setPeer(&n, func(p *calc.Peer) { p.AS = 65009 })
	apply(t, s, f, n)
	lines("other settings", `msg="BGP session ends"`, "peer=tor", "its settings have changed", "wasUp=")
	delete(n.Peers, "Mesh_10_0_0_2")
	apply(t, s, f, n)
	lines("no peer", `msg="BGP session ends"`, `peer="mesh with rack2"`, "no such peer any more")
}
