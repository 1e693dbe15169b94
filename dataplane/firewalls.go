package dataplane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/firewall"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// firewalls are the chains of others that drop by default what is forwarded.
type firewalls struct {
	audit    *audit
	needed   bool             // there are workloads
	dropping []firewall.Chain // all of them
	refused  map[string]error // why iptables could not be told to accept, by the chain's text
	err      error            // why they could not be read

	lost uint64 // packets that were judged and that they have dropped
	base uint64 // so many of them before their rules last changed
}

// firewallInterval is how often they are looked at while there are some: iptables-legacy tells of no change, and packets
// that they drop are counted.
const firewallInterval = 5 * time.Second

// checkFirewalls finds the firewalls of others, has iptables accept what was judged, and counts what others drop all the
// same. A host without workloads is left as it is.
func (d *Driver) checkFirewalls() error {
	f := &d.firewalls
	before := slices.Clone(f.dropping)
	f.dropping, f.err, f.refused = nil, nil, map[string]error{}
	if f.needed {
		f.dropping, f.err = firewall.Read(d.Mark)
	}
	for i, c := range f.dropping {
		if c.Tool == "" || c.Accepts {
			continue
		}
		if err := errors.Join(d.step("accept in "+c.Tool), c.Accept(d.Mark)); err != nil {
			f.refused[c.String()] = err
			continue
		}
		f.dropping[i].Accepts = true
		d.Log.WithField("chain", c.String()).Info("another firewall drops what is forwarded; a rule of felix in its chain accepts what policy allows")
	}
	if !slices.Equal(before, f.dropping) {
		d.gatePending = true
	}
	f.audit.every = readBack
	if len(f.dropping) > 0 || f.err != nil || firewall.HasLegacy() {
		f.audit.every = firewallInterval
	}
	f.audit.due = d.clock().Add(jittered(f.audit.every))
	return d.countLost()
}

// countLost counts what was judged and dropped by others. It is known only once the gate counts.
func (d *Driver) countLost() error {
	f := &d.firewalls
	rules := d.gate.InForce()
	if rules == nil || !rules.Forward || len(f.dropping) == 0 {
		f.lost, f.base = 0, 0
		return nil
	}
	lost, err := gate.Lost()
	f.lost, f.base = lost, min(f.base, lost) // less after the gate was made anew
	if d.audits.firewallsChanged.Swap(false) {
		f.base = lost
	}
	return err
}

// needFirewalls has the firewalls of others looked at when the first workload comes or the last one goes.
func (d *Driver) needFirewalls() {
	needed := false
	for _, a := range d.plan.assigned {
		needed = needed || a.Role == interfaces.Workload && a.Endpoint != (calc.EndpointID{})
	}
	if needed != d.firewalls.needed {
		d.firewalls.needed = needed
		d.ask(d.firewalls.audit)
	}
}

// problems are the firewalls that drop what policy allows.
func (f *firewalls) problems(mark uint32) (texts []string) {
	if f.err != nil {
		texts = append(texts, "other firewalls on this host may drop what policy allows: "+f.err.Error())
	}
	for _, c := range f.dropping {
		if c.Accepts {
			continue
		}
		switch err := f.refused[c.String()]; {
		case err != nil:
			texts = append(texts, fmt.Sprintf("%v drops forwarded packets that policy allows, and felix could not have it accept them: %v: do it by hand: %s",
				c, err, c.Advice(mark)))
		case f.lost > f.base:
			texts = append(texts, fmt.Sprintf("%d forwarded packets that policy allows were dropped by another firewall, and %v drops by default: have it accept them: %s",
				f.lost-f.base, c, c.Advice(mark)))
		}
	}
	return texts
}
