package dhcp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// advertiseEvery is how often each workload hears of its router without asking. One that has missed an advertisement hears the next long
// before the former ends.
const advertiseEvery = 10 * time.Minute

// Event is the last word with a workload.
type Event struct {
	When    time.Time
	Note    string
	Problem bool
}

// Server answers the questions of all workloads of a network namespace: that of the thread that calls New. Its methods may be called by
// several goroutines.
type Server struct {
	log    *logrus.Entry
	socket int

	mu     sync.Mutex
	links  map[int]Link
	events map[int]Event
	next   time.Time // when the next advertisements are due
}

// New opens the socket for answers. The caller closes the server.
func New(log *logrus.Entry) (*Server, error) {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // receives nothing
	if err != nil {
		return nil, fmt.Errorf("open the socket for answers to DHCP: %w", err)
	}
	// Policy judges the packets of others: what felix says itself passes no hook.
	if err := unix.SetsockoptInt(socket, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the socket for answers to DHCP: %w", err), unix.Close(socket))
	}
	return &Server{log: log, socket: socket, links: map[int]Link{}, events: map[int]Event{}}, nil
}

// Close ends the server. Questions get no answer then.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket < 0 {
		return nil
	}
	err := unix.Close(s.socket)
	s.socket = -1
	return err
}

// Serve sets the links, by the index of the interface. A workload whose link is new, or has changed, hears of its router at once.
func (s *Server) Serve(links map[int]Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, l := range links {
		if former, known := s.links[index]; !known || !former.equal(l) {
			s.advertise(index, l)
		}
	}
	maps.DeleteFunc(s.events, func(index int, _ Event) bool {
		return links[index].Name == "" || links[index].Name != s.links[index].Name
	})
	s.links = maps.Clone(links)
}

// Answer answers a frame that came by an interface.
func (s *Server) Answer(index int, frame []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.links[index]
	if !known {
		return
	}
	a := l.Answer(frame)
	if len(a.Frame) > 0 {
		if err := s.send(index, a.Frame); err != nil {
			a = Answer{Note: fmt.Sprintf("felix cannot answer: %v", err), Problem: true}
		}
	}
	if a.Note == "" {
		return
	}
	entry := s.log.WithField("interface", l.Name)
	if a.Problem && s.events[index].Note != a.Note {
		entry.Warnf("DHCP: the workload %s", a.Note)
	} else {
		entry.Debugf("DHCP: the workload %s", a.Note)
	}
	s.events[index] = Event{now, a.Note, a.Problem}
}

// Advertise tells all workloads of their router when that is due, and returns when it is due next.
func (s *Server) Advertise(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next.After(now) {
		return s.next
	}
	for _, index := range slices.Sorted(maps.Keys(s.links)) {
		s.advertise(index, s.links[index])
	}
	s.next = now.Add(advertiseEvery)
	return s.next
}

// Events returns the last word with each workload, by the index of its interface.
func (s *Server) Events() map[int]Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.events)
}

// advertise is best effort: the workload may ask, and hears again later.
func (s *Server) advertise(index int, l Link) {
	frame, err := l.Advertisement(nil)
	if err == nil && frame != nil {
		err = s.send(index, frame)
	}
	if err != nil {
		s.log.WithField("interface", l.Name).WithError(err).Debug("the workload does not hear of its router now")
	}
}

func (s *Server) send(index int, frame []byte) error {
	if s.socket < 0 {
		return errors.New("the server is closed")
	}
	return unix.Sendto(s.socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Addr: [8]byte(append(slices.Clone(frame[:6]), 0, 0))})
}
