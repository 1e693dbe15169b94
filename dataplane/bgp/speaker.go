package bgp

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
)

// server is the BGP server underneath. Paths and peers are given to it one by one; it knows them until stop.
type server interface {
	start(global) error
	stop() error // sends Cease to all peers
	setPolicy() error
	addPath(netip.Prefix, []string) error // replaces a path that is there
	deletePath(netip.Prefix) error
	addPeer(s session, restarting bool) error
	deletePeer(netip.Addr) error // sends Cease
	peers() map[netip.Addr]peerState
	lastError(netip.Addr) failure
}

// peerState is what the server knows about a session.
type peerState struct {
	State      string // as in RFC 4271: Idle, Connect, Active, OpenSent, OpenConfirm, Established
	Restarting bool   // our own restart: updates are held until the neighbours have sent theirs
	Negotiated bool   // the neighbour takes routes of the session's family
	Received   int
}

const established = "Established"

// failure is the last thing that went wrong on a session.
type failure struct {
	Text string
	At   time.Time
}

// event says that a session went up or down, or that the neighbour has sent all it has.
type event struct {
	Address netip.Addr
	Up      bool
	EOR     bool
}

// Options are what only the process knows.
type Options struct {
	// Restarting says that this process follows one that announced the same things, that forwarding went on meanwhile,
	// and that the machine was not rebooted: neighbours are asked to keep our routes until they have been sent again.
	Restarting bool

	// ListenPort overrides calc.BGP's; -1 does not listen.
	ListenPort int
}

// Speaker keeps BGP sessions and announcements as calc wants them. Its methods may be called from any goroutine.
type Speaker struct {
	log  *logrus.Entry
	opts Options
	srv  server

	mu      sync.Mutex
	closed  bool
	running *global // nil: not started
	policy  bool    // the server has its policy
	paths   map[netip.Prefix]calc.Path
	peers   map[string]peer
	failed  map[string]error // peers that are wanted but could not be made
	wanted  calc.BGP
	links   map[netip.Addr]link // by address without zone, which events do not have

	// The peers that must hear in our OPEN that we restarted, and have not yet; see keepRestarting.
	restarting      bool
	restartingPeers map[string]time.Time
}

// peer is a peer as the server has it.
type peer struct {
	calc    calc.Peer
	session session
}

// link is whether a session is up, and since when it is or is not.
type link struct {
	up    bool
	since time.Time
}

// New returns a Speaker that does nothing until it is told what to do.
func New(log *logrus.Entry, opts Options) *Speaker {
	s := newSpeaker(log, opts, nil)
	s.srv = newGoBGP(log, s.observe)
	return s
}

func newSpeaker(log *logrus.Entry, opts Options, srv server) *Speaker {
	s := &Speaker{log: log, opts: opts, srv: srv, restarting: opts.Restarting}
	s.forget()
	return s
}

// forget is the state of a server that is not running.
func (s *Speaker) forget() {
	s.running, s.policy = nil, false
	s.paths = map[netip.Prefix]calc.Path{}
	s.peers = map[string]peer{}
	s.failed = map[string]error{}
	s.links = map[netip.Addr]link{}
	s.restartingPeers = map[string]time.Time{}
}

// Close leaves without a word: neighbours keep our routes for the restart time. The sessions end with the process,
// which should follow soon.
func (s *Speaker) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Shutdown takes everything back and ends all sessions: neighbours drop our routes at once. It is for a node that goes
// out of service, not for a restart. A later Apply starts again.
func (s *Speaker) Shutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = calc.BGP{}
	return s.stop()
}

func (s *Speaker) stop() error {
	s.restarting = false
	if s.running == nil {
		s.forget()
		return nil
	}
	s.forget()
	return s.srv.stop()
}

var errClosed = errors.New("BGP speaker is closed")

// observe takes an event of the server. It runs on the server's own goroutine for events.
func (s *Speaker) observe(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.links[e.Address.WithZone("")]
	if s.closed || !known {
		return
	}
	if !e.EOR && l.up != e.Up {
		s.links[e.Address.WithZone("")] = link{up: e.Up, since: time.Now()}
		log := s.log.WithField("address", e.Address).WithField("peer", s.nameOf(e.Address))
		if e.Up {
			log.Info("BGP session is up")
		} else {
			log.WithField("reason", s.srv.lastError(e.Address).Text).Warn("BGP session is down")
		}
	}
	if e.EOR || e.Up {
		s.keepRestarting()
	}
}

func (s *Speaker) nameOf(address netip.Addr) string {
	for name, p := range s.peers {
		if p.session.Address.WithZone("") == address {
			return name
		}
	}
	return ""
}

// keepRestarting lets every neighbour hear that we restarted, however late its session comes up.
//
// The server forgets the restart for all its peers as soon as those that are up have sent their routes. A neighbour that
// connects after that would hear that forwarding was not preserved, and drop the routes it keeps for us. Peers that have
// not connected yet are therefore made anew, until they have or their neighbour has given up on us.
func (s *Speaker) keepRestarting() {
	if len(s.restartingPeers) == 0 {
		return
	}
	states := s.srv.peers()
	for name, until := range s.restartingPeers {
		p, there := s.peers[name]
		state := states[p.session.Address]
		switch {
		case !there, state.State == established, time.Now().After(until):
			delete(s.restartingPeers, name)
		case state.Restarting, state.State == "OpenSent", state.State == "OpenConfirm":
			// It will say so, or just has.
		default:
			s.remakeRestarting(name, p)
		}
	}
}

func (s *Speaker) remakeRestarting(name string, p peer) {
	log := s.log.WithField("peer", name)
	if err := s.srv.deletePeer(p.session.Address); err != nil {
		log.WithError(err).Warn("BGP peer will not hear that this agent restarted, and may drop its routes for a moment")
		return
	}
	if err := s.srv.addPeer(p.session, true); err != nil {
		delete(s.peers, name)
		delete(s.restartingPeers, name)
		s.failed[name] = err
		log.WithError(err).Error("BGP peer is lost until the next change or retry")
	}
}
