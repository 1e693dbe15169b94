package bgp

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
)

// server is the BGP server behind a Speaker. It gets paths and peers one by one and keeps them until stop.
type server interface {
	start(global) error
	stop() error                                                          // sends Cease to all peers
	setPolicy(direction, []statement) error                               // for routes from now on
	refresh(netip.Addr) error                                             // judges the routes of a peer again by the import policy
	addPath(prefix netip.Prefix, communities []string, mark uint32) error // replaces the path if there is one; the mark is not sent
	deletePath(netip.Prefix) error
	addPeer(s session, restarting bool) error
	deletePeer(netip.Addr) error          // sends Cease
	reset(a netip.Addr, why string) error // ends the session with a Cease; it may come up again
	peers() map[netip.Addr]peerState
	lastError(netip.Addr) failure
	received(netip.Addr) ([]Received, error)   // with no Peer, Neighbour, Best
	nextHops(netip.Addr) ([]netip.Addr, error) // of the routes as the peer has sent them, sorted
	accepted() (map[candidate]bool, error)

	// Peers that are added as restarting between these two calls hear of our restart, however late they connect.
	beginRestart() error
	endRestart()
}

// peerState is the state of a session in the server.
type peerState struct {
	State      string // as in RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm, Established
	Restarting bool   // our own restart: updates are held until the peers have sent theirs
	Takes4     bool   // the peer takes IPv4 routes, with the next hops that the session has
	Takes6     bool   // the peer takes IPv6 routes
	Received   int    // routes
}

const established = "Established"

// failure is the last error of a session.
type failure struct {
	Text  string
	At    time.Time
	vague bool // GoBGP hides the cause
}

// event says that a session went up or down.
type event struct {
	Address netip.Addr
	Up      bool
	Ends    int        // ends of RIB that the peer sends: one for each family of the session
	Same    netip.Addr // another session whose routes cannot be told from those of this one
}

// Options has facts that only the process knows.
type Options struct {
	// Restarting says that a former process announced the same routes, that forwarding went on meanwhile, and that the machine was
	// not rebooted. The Speaker then asks peers to keep our routes until it has sent them again.
	Restarting bool

	// ListenPort overrides the port of calc.BGP. With -1 the Speaker does not listen.
	ListenPort int

	// SecretsDir is the directory of the files that secretKeyRef names.
	SecretsDir string
}

// Speaker keeps BGP sessions and announcements as calc wants them. Its methods may be called from any goroutine.
type Speaker struct {
	log  *logrus.Entry
	opts Options
	srv  server

	mu       sync.Mutex
	closed   bool
	running  *global                   // nil: not started
	policy   map[direction][]statement // that the server has
	paths    map[netip.Prefix]calc.Path
	marks    map[netip.Prefix]uint32 // of the paths; see exports.go
	exports  exportState
	imported map[netip.Addr]string // by peer: its rules by which the server has judged its routes
	peers    map[string]peer
	failed   map[string]error   // peers that are wanted but could not be added, and why
	limited  map[string]closing // by name: those that stay closed until their settings change; see limit.go
	withheld map[string]Withheld

	formerLimited []string // peers that a former process has closed; see KeepLimited

	wanted  calc.BGP
	applied bool                // wanted was given
	links   map[netip.Addr]link // by address

	secrets secrets
	way     wayState

	linkEvents chan struct{} // delivers when interfaces have changed; see watchWays

	learned  *learned
	deadline time.Time // see TakeLearned

	tookComplete bool // that TakeLearned returned last

	heard map[string]bool // workloads that have told their routes, by name

	restarting      bool            // peers that are added are to hear of our restart
	restartingPeers map[string]bool // by name: those that have not connected since our restart
	restartTimer    *time.Timer
}

// peer is a peer that the server has.
type peer struct {
	calc    calc.Peer
	session session
}

// link says whether a session is up, since when, and how often it was lost.
type link struct {
	up    bool
	since time.Time
	flaps int
	ends  int // of RIB that the peer sends
}

// New returns a Speaker that does nothing before the first Apply.
func New(log *logrus.Entry, opts Options) *Speaker {
	s := newSpeaker(log, opts, nil)
	s.srv = newGoBGP(log, s.observe, s.learned)
	return s
}

func newSpeaker(log *logrus.Entry, opts Options, srv server) *Speaker {
	s := &Speaker{log: log, opts: opts, srv: srv, restarting: opts.Restarting, learned: newLearned(), heard: map[string]bool{}, way: newWayState(), linkEvents: make(chan struct{}, 1)}
	s.secrets = secrets{dir: opts.SecretsDir, known: map[calc.Password]reading{}}
	s.forget()
	return s
}

// forget sets the state that fits a server that is not running.
func (s *Speaker) forget() {
	s.running, s.policy = nil, map[direction][]statement{}
	s.paths, s.marks = map[netip.Prefix]calc.Path{}, map[netip.Prefix]uint32{}
	s.exports, s.imported = newExportState(), map[netip.Addr]string{}
	s.peers = map[string]peer{}
	s.failed = map[string]error{}
	s.limited = map[string]closing{}
	s.links = map[netip.Addr]link{}
	s.restartingPeers = map[string]bool{}
	s.way.forget()
	s.learned.withdrawAll()
}

// Close sends nothing: peers keep our routes for the restart time. The sessions end with the process, which should end soon.
func (s *Speaker) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *Speaker) stop() error {
	s.restarting = false
	s.endRestart()
	if s.running == nil {
		s.forget()
		return nil
	}
	s.forget()
	return s.srv.stop()
}

var errClosed = errors.New("BGP speaker is closed")

// observe handles an event of the server, on the server's goroutine for events.
func (s *Speaker) observe(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.links[e.Address]
	if s.closed || !known {
		return
	}
	if l.up != e.Up {
		s.links[e.Address] = s.changed(e, l, time.Now())
	}
	if e.Up {
		s.heardOfRestart(s.nameOf(e.Address))
		s.learned.signal() // see Sessions
	} else {
		s.learned.down(e.Address)
	}
	if l.up && !e.Up {
		s.reopenSame(e.Address)
	}
	if e.Same.IsValid() {
		s.settleSame(e.Address, e.Same)
	}
}

func (s *Speaker) nameOf(address netip.Addr) string {
	for name, p := range s.peers {
		if p.session.Address == address {
			return name
		}
	}
	return ""
}

// beginRestart is called before the first peers are added.
func (s *Speaker) beginRestart(sessions map[string]session) {
	if !s.restarting || s.restartTimer != nil || len(sessions) == 0 {
		return
	}
	if err := s.srv.beginRestart(); err != nil {
		s.log.WithError(err).Warn("the agent cannot tell BGP peers that connect late that it has only restarted: they may drop this node's routes for a moment")
		return
	}
	longest := time.Duration(0)
	for name, sess := range sessions {
		s.restartingPeers[name] = true
		longest = max(longest, time.Duration(sess.RestartTime)*time.Second)
	}
	for name := range s.withheldSoon() {
		s.restartingPeers[name] = true
	}
	// Later, no peer keeps routes for us any more.
	s.restartTimer = time.AfterFunc(longest, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.endRestart()
	})
}

// heardOfRestart notes that a peer has connected or has gone. After the last one, the restart is over.
func (s *Speaker) heardOfRestart(name string) {
	delete(s.restartingPeers, name)
	if len(s.restartingPeers) == 0 {
		s.endRestart()
	}
}

func (s *Speaker) endRestart() {
	if s.restartTimer == nil {
		return
	}
	s.restartTimer.Stop()
	s.restartTimer, s.restarting = nil, false
	clear(s.restartingPeers)
	s.srv.endRestart()
}
