package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

// eventLog writes the events of the programs to felix's log, one line each, at most linesPerSecond. bpfLogLevel decides which
// events the programs send.
type eventLog struct {
	log *logrus.Entry

	second     time.Time // start of the second that is counted
	lines      int       // written in that second
	suppressed int       // not written in that second
}

const (
	linesPerSecond = 100
	// After so many events that are not written, the reader rests, so a flood costs little processor time. The kernel drops the
	// events that do not fit into the buffer meanwhile.
	restAfter = 1000
	rest      = 10 * time.Millisecond
	// followAgain is the pause before events are followed again after an error.
	followAgain = 5 * time.Second
)

// run follows the events until ctx ends.
func (e *eventLog) run(ctx context.Context, driver *dataplane.Driver) {
	for {
		err := driver.Follow(ctx, func(event dataplane.Event) { e.note(event, time.Now()) })
		if ctx.Err() != nil {
			return
		}
		e.log.WithError(err).Warnf("packets that policy drops are not logged; trying again in %v", followAgain)
		select {
		case <-time.After(followAgain):
		case <-ctx.Done():
			return
		}
	}
}

func (e *eventLog) note(event dataplane.Event, now time.Time) {
	if now.Sub(e.second) >= time.Second {
		if e.suppressed > 0 {
			e.log.Infof("%d more events were not logged: more than %d in a second; margayctl status -o json counts drops by reason",
				e.suppressed, linesPerSecond)
		}
		e.second, e.lines, e.suppressed = now, 0, 0
	}
	if e.lines < linesPerSecond {
		e.lines++
		e.log.Info(eventLine(event))
		return
	}
	if e.suppressed++; e.suppressed%restAfter == 0 {
		time.Sleep(rest)
	}
}

// eventLine is the log line of an event:
//
//	drop tcp 198.51.100.10:4242 -> 10.65.0.2:9000 on cali-web (ingress of shop/web): end of tier default
func eventLine(e dataplane.Event) string {
	at := e.Interface
	if at == "" {
		at = "an interface that has gone"
	}
	of := e.Direction
	if e.Endpoint != (calc.EndpointID{}) {
		of += " of " + endpointName(e.Endpoint)
	}
	return fmt.Sprintf("%s %s on %s (%s): %s", e.Kind, eventPacket(e), at, of, eventCause(e))
}

// eventPacket is protocol, source and destination. ICMP has a type and a code, and only some protocols have ports. ARP packets, and
// packets that cannot be parsed, have no addresses.
func eventPacket(e dataplane.Event) string {
	if e.Protocol == 0 && unspecified(e.Source) && unspecified(e.Destination) {
		return "packet without IP addresses"
	}
	protocol := protocolName(e.Protocol)
	if e.Protocol == protocolICMP || e.Protocol == protocolICMPv6 {
		protocol = fmt.Sprintf("%s %d/%d", protocol, e.ICMPType, e.ICMPCode)
	}
	end := func(a netip.AddrPort) string {
		if !hasPorts(e.Protocol) {
			return a.Addr().String()
		}
		return a.String()
	}
	return fmt.Sprintf("%s %s -> %s", protocol, end(e.Source), end(e.Destination))
}

func unspecified(a netip.AddrPort) bool { return !a.IsValid() || a.Addr().IsUnspecified() }

// eventCause is the rule that decided, or the reason if none did. It is both if the program dropped the packet of a connection that a
// rule allows.
func eventCause(e dataplane.Event) string {
	rule := e.Rule.String()
	switch {
	case rule == "":
		return e.Reason
	case e.Kind == "drop" && !e.ByPolicy:
		return e.Reason + ", " + rule
	}
	return rule
}
