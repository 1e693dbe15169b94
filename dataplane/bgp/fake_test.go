package bgp

import (
	"fmt"
	"net/netip"
	"strings"
)

// fakeServer stores its input and records each call. A call fails if it contains one of the strings in fail.
type fakeServer struct {
	calls  []string
	fail   []string
	states map[netip.Addr]peerState
	hops   map[netip.Addr][]netip.Addr
	errors map[netip.Addr]failure
}

func newFake() *fakeServer {
	return &fakeServer{states: map[netip.Addr]peerState{}, errors: map[netip.Addr]failure{}}
}

func (f *fakeServer) call(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	for _, part := range f.fail {
		if strings.Contains(line, part) {
			f.calls = append(f.calls, line+" FAILS")
			return fmt.Errorf("told to fail")
		}
	}
	f.calls = append(f.calls, line)
	return nil
}

// take returns the calls since the last take, as text.
func (f *fakeServer) take() string {
	text := strings.Join(f.calls, "\n")
	f.calls = nil
	return text
}

func (f *fakeServer) start(g global) error {
	return f.call("start AS %d id %v port %d", g.AS, g.RouterID, g.Port)
}

func (f *fakeServer) stop() error {
	clear(f.states)
	return f.call("stop")
}

// setPolicy does not record the statements that every policy has.
func (f *fakeServer) setPolicy(d direction, list []statement) error {
	text := "policy " + string(d)
	for _, s := range list {
		if line := s.String(); !strings.Contains("own : accept|marked : unmark|0.0.0.0/0 0-0 : reject|::/0 0-0 : reject|: accept|: reject", line) {
			text += "; " + line
		}
	}
	return f.call("%s", text)
}

func (f *fakeServer) refresh(a netip.Addr) error { return f.call("refresh %v", a) }

func (f *fakeServer) addPath(p netip.Prefix, communities []string, mark uint32) error {
	text := ""
	if mark != 0 {
		text = fmt.Sprintf(" mark %d", mark)
	}
	return f.call("announce %v", strings.TrimSpace(fmt.Sprint(p, " ", strings.Join(communities, " "), text)))
}

func (f *fakeServer) deletePath(p netip.Prefix) error { return f.call("withdraw %v", p) }

func (f *fakeServer) addPeer(s session, restarting bool) error {
	text := ""
	if restarting {
		text = " restarting"
	}
	err := f.call("add peer %v AS %d%s", s.Address, s.AS, text)
	if err == nil {
		f.states[s.Address] = peerState{State: "Idle", Restarting: restarting}
	}
	return err
}

func (f *fakeServer) reset(a netip.Addr, why string) error { return f.call("reset %v: %s", a, why) }

func (f *fakeServer) deletePeer(a netip.Addr) error {
	err := f.call("delete peer %v", a)
	if err == nil {
		delete(f.states, a)
	}
	return err
}

func (f *fakeServer) peers() map[netip.Addr]peerState { return f.states }

func (f *fakeServer) lastError(a netip.Addr) failure { return f.errors[a] }

func (f *fakeServer) received(netip.Addr) ([]Received, error) { return nil, nil }

func (f *fakeServer) nextHops(a netip.Addr) ([]netip.Addr, error) { return f.hops[a], nil }

func (f *fakeServer) accepted() (map[candidate]bool, error) { return nil, nil }

func (f *fakeServer) beginRestart() error { return f.call("begin restart") }

func (f *fakeServer) endRestart() { _ = f.call("end restart") }
