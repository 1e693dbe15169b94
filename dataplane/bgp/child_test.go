package bgp_test

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	childprocess "github.com/margay-project/margay/dataplane/bgp/process"
	"github.com/margay-project/margay/internal/lab/router"
)

// The test binary runs itself again as a speaker or a router in a network namespace. GoBGP opens its sockets on any thread,
// so the whole process must be in the namespace. Tests also need a process that they can kill. A speaker reads requests from
// standard input and writes an answer to each to standard output. The end of the input ends the process.
const roleVariable = "MARGAY_BGP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "speaker", "restarted speaker":
		speak(os.Getenv(roleVariable) != "speaker")
	case "supervised speaker":
		supervise()
	case "child":
		if conn, err := childprocess.Inherited(); err == nil {
			childprocess.Serve(conn, newLog())
		}
	case "router":
		route()
	default:
		os.Exit(m.Run())
	}
}

// request asks a speaker for one action.
type request struct {
	Apply     *calc.BGP
	Status    bool
	Announced bool
	Listeners bool
	Learned   bool // changes since the last request
	Received  bool
	Refresh   bool // read the passwords again
	Second    bool // start a second speaker in the process
}

type answer struct {
	Error     string
	Status    []bgp.PeerStatus
	Announced []bgp.Announcement
	Listeners []int // protocol number of each listening socket
	Learned   map[netip.Prefix][]netip.Addr
	Complete  bool
	Anew      bool
	Changed   bool // passwords
	Received  []bgp.Received
}

func speak(restarting bool) {
	s := bgp.New(newLog(), bgp.Options{Restarting: restarting})
	go s.Watch(context.Background()) // ends with the process
	answerRequests(inProcess{s})
}

// supervise runs a speaker in a child of this process.
func supervise() {
	p := childprocess.New(childprocess.Options{
		Log: newLog(), Stderr: os.Stderr,
		Command: func() *exec.Cmd {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), roleVariable+"=child")
			return cmd
		},
	})
	answerRequests(p)
	p.Close()
}

func newLog() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	if os.Getenv("MARGAY_BGP_TEST_TRACE") != "" {
		log.SetLevel(logrus.TraceLevel)
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "05.000"})
	}
	return logrus.NewEntry(log)
}

// speaker is a bgp.Speaker in this process or in a child.
type speaker interface {
	Apply(calc.BGP) error
	Status() []bgp.PeerStatus
	Announced() ([]bgp.Announcement, error)
	Received() ([]bgp.Received, error)
	TakeLearned() (changed map[netip.Prefix][]netip.Addr, complete, anew bool)
	RefreshPasswords() bool
}

// inProcess is a speaker that never starts anew.
type inProcess struct{ *bgp.Speaker }

func (s inProcess) TakeLearned() (changed map[netip.Prefix][]netip.Addr, complete, anew bool) {
	changed, complete = s.Speaker.TakeLearned()
	return changed, complete, false
}

func (s inProcess) Announced() ([]bgp.Announcement, error) { return s.Speaker.Announced(), nil }

// answerRequests answers requests until the input ends.
func answerRequests(s speaker) {
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var r request
		if in.Decode(&r) != nil {
			return
		}
		_ = out.Encode(serve(s, r))
	}
}

func serve(s speaker, r request) answer {
	var a answer
	var err error
	switch {
	case r.Apply != nil && r.Second:
		second := bgp.New(logrus.NewEntry(logrus.New()), bgp.Options{ListenPort: -1})
		err = second.Apply(*r.Apply)
	case r.Apply != nil:
		err = s.Apply(*r.Apply)
	case r.Status:
		a.Status = s.Status()
	case r.Announced:
		a.Announced, err = s.Announced()
	case r.Listeners:
		a.Listeners = listeners()
	case r.Learned:
		a.Learned, a.Complete, a.Anew = s.TakeLearned()
	case r.Refresh:
		a.Changed = s.RefreshPasswords()
	case r.Received:
		a.Received, err = s.Received()
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// listeners returns the protocol number of each listening TCP socket of this process.
func listeners() []int {
	const soAcceptConn, soProtocol = 30, 38
	var protocols []int
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soAcceptConn)
		if err != nil || listens == 0 {
			continue
		}
		if protocol, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soProtocol); err == nil {
			protocols = append(protocols, protocol)
		}
	}
	return protocols
}

// route runs a router whose configuration is the first line of input, and prints its routes.
func route() {
	var cfg router.Config
	in := json.NewDecoder(os.Stdin)
	if in.Decode(&cfg) != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_ = in.Decode(&struct{}{}) // the end of the input
		cancel()
	}()
	err := router.Run(ctx, cfg, func(p netip.Prefix, _ netip.Addr, withdrawn bool) {
		sign := "+"
		if withdrawn {
			sign = "-"
		}
		fmt.Println(sign, p)
	})
	if err != nil {
		fmt.Println("error", err)
	}
}
