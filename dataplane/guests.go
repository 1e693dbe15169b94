package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/dhcp"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// guests are the workloads that get their addresses, router and resolvers from this agent (package dhcp). A goroutine reads their
// questions and answers them, also while a pass runs.
type guests struct {
	server    *dhcp.Server
	links     map[int]dhcp.Link
	due       time.Time // of the next advertisements of routers
	questions *bpf.Questions
	reading   sync.WaitGroup
}

// read begins to read questions.
func (g *guests) read(shared *bpf.Shared, log *logrus.Entry) (err error) {
	if g.questions, err = shared.ReadQuestions(); err != nil {
		return err
	}
	questions := g.questions
	g.reading.Go(func() {
		for {
			q, err := questions.Next()
			switch {
			case errors.Is(err, bpf.ErrClosed):
				return
			case err != nil:
				log.WithError(err).Warn("a workload's DHCP message is lost")
				time.Sleep(10 * time.Millisecond) // a fault that stays must not take a processor
				continue
			}
			g.server.Answer(q.Ifindex, q.Frame, time.Now())
		}
	})
	return nil
}

func (g *guests) close() (err error) {
	if g.questions != nil {
		err = g.questions.Close()
		g.reading.Wait()
		g.questions = nil
	}
	if g.server != nil {
		err = errors.Join(err, g.server.Close())
	}
	return err
}

// answers says whether felix answers DHCP on an interface: there is a workload with its policy, behind a routed interface, and nobody else
// gives it its address.
func (d *Driver) answers(a interfaces.Assignment) bool {
	return d.state.Config.DHCP && a.Role == interfaces.Workload && a.Endpoint != (calc.EndpointID{}) && a.Closed == "" && a.Master == "" &&
		!a.Link.Layer3 && !d.state.Endpoints[a.Endpoint].OwnDHCP
}

// planGuests tells the server which workloads it answers, and with what.
func (d *Driver) planGuests() {
	d.guests.links = map[int]dhcp.Link{}
	var resolvers []netip.Addr
	for index, a := range d.plan.assigned {
		if !d.answers(a) {
			continue
		}
		if len(d.guests.links) == 0 {
			resolvers = d.resolvers()
		}
		d.guests.links[index] = d.guestLink(a, resolvers)
	}
	d.guests.server.Serve(d.guests.links)
}

func (d *Driver) guestLink(a interfaces.Assignment, resolvers []netip.Addr) dhcp.Link {
	ep := d.state.Endpoints[a.Endpoint]
	l := dhcp.Link{Name: a.Link.Name, MTU: a.Link.MTU, Life: a.Link.Life}
	l.MAC, _ = net.ParseMAC(a.Link.MAC)
	for _, address := range a.Link.Addresses {
		if address = address.WithZone(""); address.Is6() && address.IsLinkLocalUnicast() && !l.LinkLocal.IsValid() {
			l.LinkLocal = address
		}
	}
	l.Guest = dhcp.Guest{Addresses: ep.Addresses, Hostname: ep.Hostname, Resolvers: resolvers}
	if mac, err := net.ParseMAC(ep.MAC); err == nil {
		l.Guest.MAC = mac
	}
	return l
}

func (d *Driver) resolvers() []netip.Addr {
	if set := d.state.Config.Resolvers; set.Set {
		return set.Addresses
	}
	found, err := dhcp.HostResolvers()
	if err != nil {
		d.Log.WithError(err).Debug("workloads get no resolver by DHCP: set workloadDNSServers in a FelixConfiguration")
	}
	return found
}

// keepGuests tells workloads of their router when that is due. The resolvers of the host are read again then.
func (d *Driver) keepGuests(now time.Time) {
	if len(d.guests.links) == 0 || d.guests.due.After(now) {
		return
	}
	if !d.guests.due.IsZero() {
		d.planGuests()
	}
	d.guests.due = d.guests.server.Advertise(now)
}

// lastWord says how the last question of the workload on an interface went; empty: it has asked nothing.
func (d *Driver) lastWord(index int) string {
	e, any := d.guests.server.Events()[index]
	if !any {
		return ""
	}
	return fmt.Sprintf("%s at %s", e.Note, e.When.UTC().Format(time.RFC3339))
}
