package bgp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// secretBIRD configures a router with one session per family, with a password unless it is empty, that connects or waits.
func secretBIRD(password string, passive bool) string {
	lines := "graceful restart on;"
	if password != "" {
		lines += fmt.Sprintf(" password %q;", password)
	}
	if passive {
		lines += " passive on;"
	}
	return strings.ReplaceAll(impatient(birdConfig(routerAS)), "graceful restart on;", lines)
}

// secretNode is the node with passwords from a file, unless it is empty. It waits for the router if passive.
func secretNode(file string, passive bool) calc.BGP {
	n := node(routerAS)
	for name, p := range n.Peers {
		p.Passive, p.Password = passive, calc.Password{File: file}
		n.Peers[name] = p
	}
	return n
}

func writePassword(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// dropped counts the segments that the hosts have dropped because of their MD5 signatures: none although expected, some although not
// expected, or a wrong one.
func (p *pair) dropped() (missing, unexpected, wrong int) {
	for _, host := range []*lab.Host{p.host, p.router} {
		missing += counter(host, "TCPMD5NotFound")
		unexpected += counter(host, "TCPMD5Unexpected")
		wrong += counter(host, "TCPMD5Failure")
	}
	return missing, unexpected, wrong
}

func TestSessionsWithAPasswordComeUpInBothDirections(t *testing.T) {
	t.Parallel()
	for name, passive := range map[string]bool{"the agent connects": false, "the router connects": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			file := filepath.Join(t.TempDir(), "password")
			writePassword(t, file, "s3cret of the rack\n")
			b := router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("s3cret of the rack", !passive))
			s := run(t, l.host, "speaker")
			s.apply(t, secretNode(file, passive))
			s.waitUp(t)
			b.AwaitRoute(block4)
			b.AwaitRoute(block6)
		})
	}
}

func TestSessionsStayDownWithoutTheSamePassword(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ours, theirs string
		dropped      func(missing, unexpected, wrong int) int
	}{
		"wrong":             {"one", "two", func(_, _, wrong int) int { return wrong }},
		"missing on theirs": {"one", "", func(missing, unexpected, _ int) int { return min(missing, unexpected) }},
		"missing on ours":   {"", "two", func(missing, unexpected, _ int) int { return min(missing, unexpected) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			file := ""
			if c.ours != "" {
				file = filepath.Join(t.TempDir(), "password")
				writePassword(t, file, c.ours)
			}
			router.StartBIRD(t, l.router, t.TempDir(), secretBIRD(c.theirs, false))
			s := run(t, l.host, "speaker")
			s.apply(t, secretNode(file, false))
			lab.Await(t, func() error { // both ends have tried several times, in both families
				for _, st := range s.status(t) {
					if st.State == "Established" {
						t.Fatalf("the session came up: %+v", st)
					}
					if c.ours != "" && !strings.Contains(st.Why, "it has another password or none") {
						return fmt.Errorf("%+v", st)
					}
				}
				if n := c.dropped(l.dropped()); n < 6 {
					return fmt.Errorf("only %d segments were dropped", n)
				}
				return nil
			})
		})
	}
}

func TestPasswordsAreRotatedAndRemoved(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	file := filepath.Join(t.TempDir(), "password")
	writePassword(t, file, "first")
	b := router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("first", false))
	s := run(t, l.host, "speaker")
	n := secretNode(file, true)
	s.apply(t, n)
	s.waitUp(t)
	before := s.status(t)[0].Since

	// The file is gone, or is no password: the session goes on with the former one.
	for text, why := range map[string]string{
		"": "it is empty", "a\nb": "several lines", strings.Repeat("x", 81): "longer than 80 bytes", "none": "no such file",
	} {
		writePassword(t, file, text)
		if text == "none" {
			_ = os.Remove(file)
		}
		if !s.ask(t, request{Refresh: true}).Changed {
			t.Errorf("%s: not noticed", why)
		}
		if got := s.ask(t, request{Apply: &n}).Error; !strings.Contains(got, why) || !strings.Contains(got, file) {
			t.Errorf("the error is %q, want %q", got, why)
		}
		if st := s.status(t)[0]; st.State != "Established" || st.Since != before || !strings.Contains(st.Why, "keeps its former settings") {
			t.Errorf("%s: %+v", why, st)
		}
	}
	writePassword(t, file, "first\n")
	if !s.ask(t, request{Refresh: true}).Changed {
		t.Error("the password is back and this is not noticed")
	}
	s.apply(t, n)
	if st := s.status(t)[0]; st.State != "Established" || st.Since != before || st.Why != "" {
		t.Errorf("the same password is back: %+v", st)
	}
	if s.ask(t, request{Refresh: true}).Changed {
		t.Error("a change without a change")
	}

	writePassword(t, file, "second")
	s.ask(t, request{Refresh: true})
	s.apply(t, n)
	b.Configure(secretBIRD("second", false))
	lab.Await(t, func() error {
		for _, st := range s.status(t) {
			if st.State != "Established" || !st.Since.After(before) {
				return fmt.Errorf("%+v", st)
			}
		}
		return nil
	})

	// A session without a password comes up after the one with a password, also in passive mode: the listener forgets the password.
	s.apply(t, secretNode("", true))
	b.Configure(secretBIRD("", false))
	s.waitUp(t)
	b.AwaitRoute(block4)
}

func TestAPeerIsAddedAgainWithoutItsPassword(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	file := filepath.Join(t.TempDir(), "password")
	writePassword(t, file, "first")
	b := router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("first", false))
	s := run(t, l.host, "speaker")
	n := secretNode(file, true)
	s.apply(t, n)
	s.waitUp(t)
	gone := secretNode(file, true)
	delete(gone.Peers, "v4") // the other peer keeps the listener open
	s.apply(t, gone)
	b.Configure(strings.Replace(secretBIRD("first", false), ` password "first";`, "", 1)) // session4 is the first
	plain := secretNode(file, true)
	p := plain.Peers["v4"]
	p.Password = calc.Password{}
	plain.Peers["v4"] = p
	s.apply(t, plain)
	s.waitUp(t)
}

// No session exists without a password that is wanted, whatever the reason that it cannot be read.
func TestWithoutItsPasswordThereIsNoSession(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("", false))
	s := run(t, l.host, "speaker")
	s.apply(t, secretNode("", true))
	s.waitUp(t)
	n := secretNode("/nonexistent/password", true)
	second := n.Peers["v4"] // another peer with the address, and without a password
	second.Password, second.Port = calc.Password{}, 1179
	n.Peers["v4 on another port"] = second
	if got := s.ask(t, request{Apply: &n}).Error; !strings.Contains(got, "password from file /nonexistent/password: open") {
		t.Errorf("the error is %q", got)
	}
	for _, st := range s.status(t) {
		if st.State != "Failed" {
			t.Errorf("the session without a password goes on: %+v", st)
		}
	}
	l.refused(t)
}

// A kernel that has no room for the password gets no session: GoBGP would accept one without the password.
func TestAListenerThatTakesNoPasswordGetsNoSession(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("", false))
	file := filepath.Join(t.TempDir(), "password")
	writePassword(t, file, "first")
	l.host.Sysctl("core/optmem_max", "1")
	s := run(t, l.host, "speaker")
	n := secretNode(file, true)
	p := n.Peers["v6"]
	p.Password = calc.Password{}
	n.Peers["v6"] = p
	got := s.ask(t, request{Apply: &n}).Error
	if !strings.Contains(got, "the kernel does not take the password for the listener: cannot allocate memory") {
		t.Errorf("the error is %q", got)
	}
	lab.Await(t, func() error {
		st := s.status(t)
		if st[0].State != "Failed" {
			t.Fatalf("%+v", st[0])
		}
		if st[1].State != "Established" { // the other one is not held up
			return fmt.Errorf("%+v", st[1])
		}
		return nil
	})
	l.refused(t)
	l.host.Sysctl("core/optmem_max", "131072")
	s.apply(t, n)
}

// refused fails the test if the speaker greets a connection of the router without a password.
func (p *pair) refused(t *testing.T) {
	t.Helper()
	p.router.Must(func() error {
		conn, err := net.DialTimeout("tcp4", host4+":179", lab.Patience)
		if err != nil {
			return fmt.Errorf("the speaker does not listen: %w", err)
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(lab.Patience))
		if n, err := io.ReadFull(conn, make([]byte, 19)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%d bytes of an answer: %v", n, err)
		}
		return nil
	})
}

func TestNoLogHasThePassword(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	file := filepath.Join(t.TempDir(), "password")
	writePassword(t, file, "unmistakable")
	router.StartBIRD(t, l.router, t.TempDir(), secretBIRD("unmistakable", false))
	var log lab.Output
	s := runLogging(t, l.host, "speaker", &log, "MARGAY_BGP_TEST_TRACE=1")
	s.apply(t, secretNode(file, true))
	s.waitUp(t)
	status := fmt.Sprintf("%+v", s.status(t))
	writePassword(t, file, "unmistakable too")
	s.ask(t, request{Refresh: true})
	s.apply(t, secretNode(file, true))
	s.Kill()
	text := log.String()
	if !strings.Contains(text, "Add a peer configuration") {
		t.Errorf("the log has no lines of GoBGP:\n%s", text)
	}
	if bytes.Contains([]byte(text+status), []byte("unmistakable")) {
		t.Error("the log or the status has the password")
	}
}
