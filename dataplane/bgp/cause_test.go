package bgp

import (
	"testing"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/sirupsen/logrus"
)

func TestWhyASessionIsNotEstablished(t *testing.T) {
	active, passive := session{Port: 1179}, session{Passive: true}
	for _, c := range []struct {
		name, state string
		of          session
		last, want  string
	}{
		{"established", established, active, "connect: refused", ""},
		{"connecting for the first time", "Active", active, "", "felix connects to port 1179 of the peer every few seconds"},
		{"connecting again", "Active", active, "connect: refused", "connect: refused; felix connects to port 1179 of the peer every few seconds"},
		{"passive", "Active", passive, "", "felix waits for the peer to connect: this node is the passive end"},
		{"refused", "Idle", active, "session refused: bad peer AS", "session refused: bad peer AS; felix pauses for about 5 s before the next attempt"},
		{"open sent", "OpenSent", active, "", "connected; the peer has not sent its OPEN yet"},
		{"no answer with a password", "Active", session{Port: 179, Password: "x"}, "connect: i/o timeout",
			"connect: i/o timeout; felix connects to port 179 of the peer every few seconds; if the peer runs, it has another password or none"},
		{"refused with a password", "Active", session{Port: 179, Password: "x"}, "connect: refused",
			"connect: refused; felix connects to port 179 of the peer every few seconds"},
		{"silence with TTL security", "Active", session{Passive: true, MinTTL: 254}, "",
			"felix waits for the peer to connect: this node is the passive end; if the peer runs, it is more than 2 hops away, or does not send with a TTL of 255 (ttlSecurity)"},
		{"open confirmed", "OpenConfirm", active, "", "felix waits for the peer's first keepalive"},
	} {
		if got := notEstablished(c.of, c.state, failure{Text: c.last}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A later message of GoBGP about the same loss does not replace the cause by a poorer one.
func TestTheNotificationStaysTheLastErrorOfALostSession(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(quiet().Logger.Out)
	j := &journal{log: logrus.NewEntry(logger), last: map[string]failure{}}
	key := func(more gobgplog.Fields) gobgplog.Fields { more["Key"] = "192.0.2.1"; return more }
	for _, c := range []struct {
		say  func()
		want string
	}{
		{func() {
			j.Warn("received notification", key(gobgplog.Fields{"Code": uint8(6), "Subcode": uint8(2), "Communicated-Reason": "maintenance"}))
		}, "the peer ended the session: shut down by its operator: maintenance"},
		{func() { j.Info("Peer Down", key(gobgplog.Fields{"Reason": "notification-received code 6"})) },
			"the peer ended the session: shut down by its operator: maintenance"},
		{func() { j.Info("Peer Down", key(gobgplog.Fields{"Reason": "graceful-restart"})) },
			"the peer restarts: its routes stay in use for its restart time"},
		{func() {
			j.Warn("received notification", key(gobgplog.Fields{"Code": uint8(2), "Subcode": uint8(3)}))
		}, "the peer ended the session: bad router id: both ends have the same one, or it is 0; give every node and router its own"},
	} {
		c.say()
		if got := j.lastError(addr("192.0.2.1")).Text; got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
