package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/margay-project/margay/calc"
)

// Apply brings the server to the wanted state. It makes all the progress it can and joins the errors of the rest; a second call
// with the same argument tries only that rest again. The caller must not change want afterwards.
func (s *Speaker) Apply(want calc.BGP) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.wanted, s.applied = want, true
	defer s.signalComplete()
	if len(want.Peers) == 0 {
		// Without peers, the port is left to other programs.
		return s.stopUnused()
	}
	if err := s.ensureRunning(want); err != nil {
		return err
	}
	sessions, errs := s.wantedSessions(want)
	if failed := s.deleteUnlike(sessions); len(failed) > 0 {
		return errors.Join(append(errs, failed...)...)
	}
	s.findWays(false)
	peers := s.filteredPeers(want, sessions)
	failed, set := s.applyFilters(want, peers)
	errs = append(errs, failed...)
	if !set {
		return errors.Join(errs...)
	}
	errs = append(errs, s.deletePeers(sessions)...)
	errs = append(errs, s.deletePaths(want.Paths)...)
	ready, waiting := s.holdBack(sessions, peers)
	errs = append(append(errs, waiting...), s.addPeers(want.Peers, ready)...)
	return errors.Join(errs...)
}

// stopUnused stops a server without peers. It does not end a restart: peers that come later must still hear of it.
func (s *Speaker) stopUnused() error {
	if s.running == nil {
		s.failed = map[string]error{}
		return nil
	}
	s.log.Info("BGP stops: this node has no peers")
	return s.stop()
}

// ensureRunning starts the server, or restarts it if a value that all sessions share has changed. If the new values are invalid,
// the server goes on with the former ones.
func (s *Speaker) ensureRunning(want calc.BGP) error {
	g, err := newGlobal(want, s.opts.ListenPort)
	if err != nil {
		return err
	}
	if s.running != nil && *s.running != g {
		s.log.WithFields(map[string]any{
			"as": g.AS, "routerID": g.RouterID, "port": g.Port,
			"wasAS": s.running.AS, "wasRouterID": s.running.RouterID, "wasPort": s.running.Port,
		}).Warn("BGP restarts: the node's AS number, router id, listen port or listen addresses have changed; all sessions start anew")
		if err := s.stop(); err != nil {
			return fmt.Errorf("stop BGP to restart it: %w", err)
		}
	}
	if s.running == nil {
		if err := s.srv.start(g); err != nil {
			return err
		}
		s.running = &g
	}
	return nil
}

// MeshPrefix begins the name of a session of the mesh; the name of the node follows.
const MeshPrefix = "mesh with "

// Called returns the name by which operators know a peer: that of its BGPPeer, with the workload if the peer is one, or of the node in the mesh.
func Called(session string, p calc.Peer) string {
	if p.Object == "" && p.Node != "" {
		return MeshPrefix + p.Node
	}
	if p.IsWorkload() {
		return p.Object + " with " + p.Workload
	}
	return cmp.Or(p.Object, session)
}

// wantedSessions returns the sessions by the name of the peer. The server tells sessions apart by address, so if several peers
// have one address, the first by name gets the session and the others an error. If peers have one link-local address on several
// interfaces, the same must hold for all of them: see unlike.
func (s *Speaker) wantedSessions(want calc.BGP) (map[string]session, []error) {
	sessions := map[string]session{}
	owners := map[netip.Addr]string{}
	var errs []error
	s.failed = map[string]error{}
	s.secrets.forget(want.Peers)
	maps.DeleteFunc(s.limited, func(name string, _ closing) bool { _, wanted := want.Peers[name]; return !wanted })
	fail := func(name string, err error) {
		s.failed[name] = err
		errs = append(errs, fmt.Errorf("BGP peer %s: %w", Called(name, want.Peers[name]), err))
	}
	for _, name := range slices.Sorted(maps.Keys(want.Peers)) {
		sess, err := newSession(want.Peers[name])
		if err != nil {
			fail(name, err)
			continue
		}
		if owner, taken := owners[sess.Address]; taken {
			fail(name, fmt.Errorf("%v belongs to peer %s already; remove one of the two", sess.Address, Called(owner, want.Peers[owner])))
			continue
		}
		if owner, taken := owners[sess.Address.WithZone("")]; taken && unlike(want, want.Peers[owner], want.Peers[name]) {
			fail(name, fmt.Errorf("%v is the address of peer %s on another interface, and GoBGP cannot filter the two differently; "+
				"give both the same filters, AS numbers and nextHopMode, or one of them another link-local address",
				sess.Address, Called(owner, want.Peers[owner])))
			continue
		}
		if _, taken := owners[sess.Address.WithZone("")]; !taken {
			owners[sess.Address.WithZone("")] = name
		}
		owners[sess.Address] = name // also without a readable password: no other peer may have the address without one
		if sess.Password, err = s.secrets.of(want.Peers[name].Password); err != nil {
			fail(name, err)
			continue
		}
		sess.Cluster, sess.Client = want.ClusterID, want.Peers[name].Client
		s.closeFormerLimited(name, sess)
		if why := s.isClosed(name, sess); why != nil {
			s.failed[name] = why // no error of Apply: another attempt does not help
			continue
		}
		if w, yes := s.withheld[name]; yes {
			s.failed[name] = errors.New(w.Why)
			continue
		}
		if why := want.Unreached[name]; why != "" {
			s.failed[name] = errors.New(why) // no error of Apply: the route will come without it
			continue
		}
		sessions[name] = sess
	}
	return sessions, errs
}

// addPaths announces new and changed paths, and those that get another mark. A path that cannot be changed stays as it was.
func (s *Speaker) addPaths(want map[netip.Prefix]calc.Path, marks map[netip.Prefix]uint32) (errs []error) {
	var changed []netip.Prefix
	for _, prefix := range sortedPrefixes(want) {
		path := want[prefix]
		have, there := s.paths[prefix]
		if there && slices.Equal(have.Communities, path.Communities) && s.marks[prefix] == marks[prefix] {
			s.paths[prefix] = path // the reason may differ
		} else {
			changed = append(changed, prefix)
		}
	}
	failed := together(changed, func(prefix netip.Prefix) error { return s.srv.addPath(prefix, want[prefix].Communities, marks[prefix]) })
	for i, prefix := range changed {
		if failed[i] != nil {
			errs = append(errs, fmt.Errorf("announce %v: %w", prefix, failed[i]))
			continue
		}
		s.paths[prefix], s.marks[prefix] = want[prefix], marks[prefix]
	}
	return errs
}

func (s *Speaker) deletePaths(want map[netip.Prefix]calc.Path) (errs []error) {
	gone := slices.DeleteFunc(sortedPrefixes(s.paths), func(prefix netip.Prefix) bool { _, wanted := want[prefix]; return wanted })
	failed := together(gone, s.srv.deletePath)
	for i, prefix := range gone {
		if failed[i] != nil {
			errs = append(errs, fmt.Errorf("withdraw %v: %w", prefix, failed[i]))
			continue
		}
		delete(s.paths, prefix)
		delete(s.marks, prefix)
	}
	return errs
}

// together calls f for each prefix, and returns the errors in the same order. GoBGP does its work on one goroutine and each call waits for
// it: with several calls at once, it does not wait for us.
func together(prefixes []netip.Prefix, f func(netip.Prefix) error) []error {
	errs := make([]error, len(prefixes))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(8, 1+len(prefixes)/64) { // a few are not worth it
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(prefixes); i = int(next.Add(1)) - 1 {
				errs[i] = f(prefixes[i])
			}
		})
	}
	all.Wait()
	return errs
}

// deletePeers removes the peers that are not wanted, and those whose session must start anew. A peer that is wanted but has become
// invalid keeps its session, unless a password is wanted and the session has none. A peer that is withheld or has become unreached keeps
// it while it is up.
func (s *Speaker) deletePeers(want map[string]session) []error {
	var errs []error
	addresses := map[netip.Addr]bool{}
	for _, sess := range want {
		addresses[sess.Address] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		have := s.peers[name]
		sess, wanted := want[name]
		if wanted && sess == have.session {
			continue
		}
		peer, named := s.wanted.Peers[name]
		weaker := peer.Password.IsSet() && have.session.Password == ""
		_, withheld := s.withheld[name]
		waits := (withheld || s.wanted.Unreached[name] != "") && !s.links[have.session.Address].up
		if !wanted && named && !weaker && !waits && !addresses[have.session.Address] {
			continue
		}
		if err := s.deletePeer(name, have, endCause(wanted, named)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (s *Speaker) deletePeer(name string, have peer, why string) error {
	if err := s.srv.deletePeer(have.session.Address); err != nil {
		return fmt.Errorf("end session with BGP peer %s: %w", Called(name, have.calc), err)
	}
	s.ended(have, why)
	delete(s.peers, name)
	delete(s.links, have.session.Address)
	s.heardOfRestart(name)
	s.reopenSame(have.session.Address)
	return nil
}

// endCause says why deletePeers ends a session.
func endCause(wanted, named bool) string {
	if wanted || named {
		return "its settings have changed, so it starts anew"
	}
	return "this node has no such peer any more"
}

func (s *Speaker) addPeers(want map[string]calc.Peer, sessions map[string]session) []error {
	var errs []error
	added := false
	s.beginRestart(sessions)
	s.awaitRoutes(sessions)
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		sess := sessions[name]
		if _, there := s.peers[name]; there {
			s.peers[name] = peer{calc: want[name], session: s.peers[name].session}
			continue
		}
		s.links[sess.Address] = link{since: time.Now()}
		if err := s.srv.addPeer(sess, s.restarting); err != nil {
			delete(s.links, sess.Address)
			s.failed[name] = err
			errs = append(errs, fmt.Errorf("BGP peer %s: %w", Called(name, want[name]), err))
			continue
		}
		added = true
		s.peers[name] = peer{calc: want[name], session: sess}
		if key := sess.Address; s.imported[key] == "" {
			s.imported[key] = s.judgedBy(s.wanted, sess.Interface)
		}
	}
	if added && len(s.withheldSoon()) == 0 {
		s.restarting = false // peers that come later keep no routes of ours
	}
	return errs
}

func sortedPrefixes(m map[netip.Prefix]calc.Path) []netip.Prefix {
	return slices.SortedFunc(maps.Keys(m), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
	})
}
