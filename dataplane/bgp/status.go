package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/calc"
)

// PeerStatus is the state of a wanted peer, for operators.
type PeerStatus struct {
	Name      string
	Object    string // the BGPPeer's name, or the mesh and its node
	Address   netip.Addr
	AS        uint32
	State     string // as in RFC 4271, or Failed: there is no session
	Since     time.Time
	Why       string // why the session does not do all that it should, in words; empty if it does
	LastError string // the last error, also after the session has recovered; empty: there was none
	ErrorAt   time.Time
	Flaps     int // times that the established session was lost
	Announced int // paths of ours that the peer has
	Received  int // routes that the peer has sent
}

// Announcement is a path of ours, and the peers that have it.
type Announcement struct {
	Prefix      netip.Prefix
	Communities []string
	Reason      string
	Peers       []string // established peers that have it, sorted by name
	Rejected    []Rejection
}

// Rejection says that filters keep a path from a peer.
type Rejection struct {
	Peer string // as in Announcement.Peers; its session need not be established
	Why  string
}

// Running says whether the BGP server runs.
func (s *Speaker) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil
}

// Status returns the wanted peers, sorted by name.
func (s *Speaker) Status() []PeerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := s.states()
	var list []PeerStatus
	for _, name := range slices.Sorted(maps.Keys(s.wanted.Peers)) {
		p, there := s.peers[name]
		if !there {
			want := s.wanted.Peers[name]
			status := PeerStatus{Name: name, Object: Called(name, want), Address: want.Address, AS: want.AS, State: "Failed"}
			if err := s.failed[name]; err != nil {
				status.LastError, status.Why = err.Error(), err.Error()
			}
			list = append(list, status)
			continue
		}
		list = append(list, s.peerStatus(name, p, states[p.session.Address]))
	}
	return list
}

func (s *Speaker) peerStatus(name string, p peer, state peerState) PeerStatus {
	last, l := s.srv.lastError(p.session.Address), s.links[p.session.Address]
	status := PeerStatus{
		Name:      name,
		Object:    Called(name, p.calc),
		Address:   p.session.Address,
		AS:        p.session.AS,
		State:     state.State,
		Since:     l.since,
		Why:       notEstablished(p.session, state.State, last),
		LastError: last.Text,
		ErrorAt:   last.At,
		Flaps:     l.flaps,
		Received:  state.Received,
	}
	if err := s.failed[name]; err != nil {
		status.Why = "the session keeps its former settings: " + err.Error()
	} else if state.State == established {
		status.Why = cmp.Or(s.missingFamily(p.session, state), s.withoutWay(name, p))
	}
	for prefix := range s.paths {
		if s.gets(p, state, prefix) {
			status.Announced++
		}
	}
	return status
}

// Announced returns our paths, sorted, each with the names of the BGPPeers whose peer has it, or does not get it because of its filters.
func (s *Speaker) Announced() []Announcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := s.states()
	names := slices.Sorted(maps.Keys(s.peers))
	var list []Announcement
	for _, prefix := range sortedPrefixes(s.paths) {
		path := s.paths[prefix]
		a := Announcement{Prefix: prefix, Communities: path.Communities, Reason: path.Reason}
		for _, name := range names {
			p := s.peers[name]
			if s.gets(p, states[p.session.Address], prefix) {
				a.Peers = append(a.Peers, Called(name, p.calc))
			}
			if why := s.rejected(p, prefix); why != "" {
				a.Rejected = append(a.Rejected, Rejection{Called(name, p.calc), why})
			}
		}
		list = append(list, a)
	}
	return list
}

func (s *Speaker) states() map[netip.Addr]peerState {
	if s.running == nil {
		return nil
	}
	return s.srv.peers()
}

// gets says whether the peer has one of our paths. The state of the session and the filters are enough to tell.
func (s *Speaker) gets(p peer, state peerState, prefix netip.Prefix) bool {
	return state.State == established && state.takes(prefix.Addr().Is4()) && !state.Restarting &&
		calc.Carries(p.session.Address, prefix.Addr().Is4()) && s.exports.gets(p.session.Address, s.marks[prefix])
}

// rejected says why filters keep one of our paths from the peer. It is empty if they do not.
func (s *Speaker) rejected(p peer, prefix netip.Prefix) string {
	switch {
	case !calc.Carries(p.session.Address, prefix.Addr().Is4()) || s.exports.gets(p.session.Address, s.marks[prefix]):
		return ""
	case p.calc.Filters != nil && p.calc.Filters.Closed != "":
		return p.calc.Filters.Closed
	}
	return "a BGPFilter of the BGPPeer rejects it"
}
