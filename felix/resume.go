package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

const (
	// resumeAfter is how long a start waits for the datastore. The peers' restart time, 120 s by default, runs meanwhile.
	resumeAfter = 5 * time.Second
	saveEvery   = time.Second      // at most
	saveAgain   = 10 * time.Second // after a failure
	resumeAgain = 5 * time.Second  // after a failure
)

// resumption keeps what the speaker is told for the next start, and takes over what the former agent was told if the datastore is
// away at this one.
type resumption struct {
	log  *logrus.Entry
	file string
	node string
	boot string // empty: not known, so nothing is saved or taken over

	former  *savedBGP // nil: there is none, or it is not used any more
	bgp     *calc.BGP // that the speaker got from former; nil: none
	problem string    // why nothing or not all is announced from former

	news   chan savedBGP
	failed atomic.Pointer[string] // why the last save failed
}

// newResumption reads the saved state. boot is the present boot of the machine, empty if it is not known.
func newResumption(log *logrus.Entry, file, node, boot string) *resumption {
	r := &resumption{log: log, file: file, node: node, boot: boot, news: make(chan savedBGP, 1)}
	err := errors.New("the boot id of the machine cannot be read")
	if boot != "" {
		r.former, err = readSaved(file, node, boot)
	}
	if err != nil {
		r.problem = "the BGP state of the former felix: " + err.Error()
		log.WithError(err).Warn("without the datastore, felix will announce nothing over BGP: the saved state of the former felix cannot be used")
	}
	return r
}

// save has run write what the speaker was told. A newer state replaces one that is not written yet.
func (r *resumption) save(former dataplane.Former) {
	if r.boot == "" {
		return
	}
	select {
	case <-r.news:
	default:
	}
	r.news <- savedBGP{Node: r.node, Boot: r.boot, Saved: time.Now(), Former: former}
}

// run writes the file until ctx ends, beside the loop. At the end it writes what is left.
func (r *resumption) run(ctx context.Context) {
	for {
		var state savedBGP
		select {
		case state = <-r.news:
		case <-ctx.Done():
			r.writeLast(nil)
			return
		}
		pause := saveEvery
		for !r.write(state) {
			select {
			case state = <-r.news:
			case <-time.After(saveAgain):
			case <-ctx.Done():
				r.writeLast(&state)
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			r.writeLast(nil)
			return
		}
	}
}

// writeLast writes a state that is not written yet, if there is one, or the newer one in its place.
func (r *resumption) writeLast(left *savedBGP) {
	select {
	case newer := <-r.news:
		left = &newer
	default:
	}
	if left != nil {
		r.write(*left)
	}
}

func (r *resumption) write(state savedBGP) bool {
	err := writeSaved(r.file, state)
	now := text(err)
	if was := r.failed.Swap(&now); err != nil && (was == nil || *was != now) {
		r.log.WithError(err).Warn("the BGP state cannot be saved; felix tries again")
	}
	return err == nil
}

// resume announces what the former agent did, if the datastore has not been read. Workload routes and policy of the former process
// must be in force. It is called resumeAfter the start, and again as long as it says so: what was missing may be there by then.
func (a *agent) resume() (again bool) {
	r := a.resumption
	former := r.former
	if a.told {
		r.former = nil
	}
	if r.former == nil {
		return false
	}
	found, err := a.driver.Resume(former.Former)
	if err != nil {
		problem := "without the datastore, felix announces nothing: " + err.Error()
		if problem != r.problem {
			a.log.WithError(err).Warn("without the datastore, felix announces nothing over BGP; it tries again")
		}
		r.problem = problem
		return true
	}
	r.former, r.problem = nil, ""
	r.bgp = &found.BGP
	if n := len(found.Missing); n > 0 {
		r.problem = fmt.Sprintf("without the datastore, felix does not announce %d prefixes of the former felix, the first is %v: their routes are not in the kernel",
			n, found.Missing[0])
	}
	a.log.WithFields(logrus.Fields{"saved": former.Saved.UTC().Format(time.DateTime), "peers": len(found.BGP.Peers), "paths": len(found.BGP.Paths)}).
		Warn("no datastore that is ready has been read, so felix announces over BGP what the former felix did")
	a.passResumed()
	return false
}

// passResumed is the pass while the speaker works by the saved state: routes of peers come and go, and failed peers are tried again.
func (a *agent) passResumed() {
	if a.resumption.bgp == nil || a.told {
		return
	}
	err := a.driver.Apply(calc.Delta{})
	a.bgpError = a.speaker.Apply(a.reachable(*a.resumption.bgp))
	if err != nil {
		a.log.WithError(err).Debug("a pass by the saved state")
	}
}

// reachable returns a BGP state with the peers that may get no session yet, because the kernel lacks the route to them, and without the
// addresses that this host does not route to.
func (a *agent) reachable(bgp calc.BGP) calc.BGP {
	bgp.Paths = a.driver.Routed(bgp.Paths)
	bgp.Unreached = a.driver.Unreached(bgp.Peers)
	return bgp
}

// tell gives the speaker what the datastore wants, and saves it.
func (a *agent) tell() error {
	err := a.speaker.Apply(a.reachable(a.state.BGP))
	if a.unsaved {
		a.resumption.save(dataplane.Former{
			BGP: a.state.BGP, RouteProtocol: a.state.Config.DeviceRouteProtocol, FormerProtocols: a.driver.FormerRouteProtocols(),
			Pools: slices.SortedFunc(maps.Keys(a.state.Pools), netip.Prefix.Compare),
		})
	}
	a.told, a.unsaved = true, false
	return err
}

// resumptionProblems reports what the saved state means for this start.
func (a *agent) resumptionProblems() (list []*agentv1.Problem) {
	r := a.resumption
	say := func(text string) { list = append(list, &agentv1.Problem{Object: "BGP", Text: text}) }
	if !a.told {
		if r.bgp != nil {
			say("felix has not read a datastore that is ready since it started, so it announces what the former felix did")
		}
		if r.problem != "" {
			say(r.problem)
		}
	}
	if why := r.failed.Load(); why != nil && *why != "" {
		say("the BGP state cannot be saved, so a felix that starts without the datastore would announce nothing: " + cmp.Or(*why, "unknown"))
	}
	return list
}
