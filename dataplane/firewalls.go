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

// firewalls knows the chains of other programs that drop forwarded packets by default.
type firewalls struct {
	audit    *audit
	needed   bool             // there are workloads
	dropping []firewall.Chain // all of them
	refused  map[string]error // by the text of a chain: why iptables did not take the rule that accepts
	err      error            // why the chains could not be read

	lost uint64 // packets that policy allowed and that other firewalls dropped
	base uint64 // the part of lost from before the rules of others last changed
}

// firewallInterval is how often the chains are read while there are some: iptables-legacy tells of no change, and dropped packets
// are counted.
const firewallInterval = 5 * time.Second

// checkFirewalls finds the firewalls of other programs, adds rules to iptables that accept what policy allows, and counts the
// packets that are dropped all the same. It leaves a host without workloads as it is.
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
		d.Log.WithField("chain", c.String()).Info("another firewall drops forwarded packets by default; felix has added a rule to its chain that accepts packets that policy allows")
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

// countLost counts the packets that policy allowed and other firewalls dropped. The gate counts them, once it knows that there
// are such firewalls.
func (d *Driver) countLost() error {
	f := &d.firewalls
	rules := d.gate.InForce()
	if rules == nil || !rules.Forward || len(f.dropping) == 0 {
		f.lost, f.base = 0, 0
		return nil
	}
	lost, err := gate.Lost()
	f.lost, f.base = lost, min(f.base, lost) // the count starts at 0 with a new gate
	if d.audits.firewallsChanged.Swap(false) {
		f.base = lost
	}
	return err
}

// needFirewalls asks for their audit when the first workload comes or the last one goes.
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

// problems names the firewalls that drop what policy allows.
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
			texts = append(texts, fmt.Sprintf("%v drops forwarded packets that policy allows, and felix could not add a rule that accepts them: %v: add it by hand: %s",
				c, err, c.Advice(mark)))
		case f.lost > f.base:
			texts = append(texts, fmt.Sprintf("another firewall dropped %d forwarded packets that policy allows; %v drops by default: add a rule that accepts them: %s",
				f.lost-f.base, c, c.Advice(mark)))
		}
	}
	return texts
}
