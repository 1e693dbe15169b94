package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/bpf"
)

// hookCare looks after the hooks at which programs are attached. The kernel tells nobody of changes there, so hooks are read
// every few seconds.
type hookCare struct {
	*bpf.Hooks
	audit   *audit
	due     bool          // to be read in this pass
	failed  map[int]error // by interface: why a hook could not be repaired
	former  map[int]bool  // interfaces on which a former agent's programs run that are not pinned here
	rivals  map[hook]*rival
	told    map[string]bool // programs of other processes behind ours that the log has named
	pinsErr error
}

// hook is one of the two hooks of an interface.
type hook struct {
	index int
	at    bpf.Hook
}

// rival is a program that another process attached before ours. Ours goes first again, and each time waits longer before it
// does: two processes that fight must not keep the host busy.
type rival struct {
	programs string
	name     string // of the interface
	rounds   int    // how often ours went first again
	last     time.Time
	again    time.Time
	first    bool // the rival is before ours now
}

const (
	// rivalPause is the wait before ours goes first for the second time. It doubles each time, up to readBack.
	rivalPause = 5 * time.Second
	// rivalForgotten is the time after which a rival that has not come back is no problem any more.
	rivalForgotten = 10 * time.Minute
)

// checkHooks marks hooks and pins to be read in this pass, after programs are attached.
func (d *Driver) checkHooks() error {
	d.hooks.due = true
	return nil
}

// keepHooks reads the hooks of all interfaces and repairs them: our program is there and first, and no program of a former agent
// judges beside it.
func (d *Driver) keepHooks(now time.Time) error {
	if !d.hooks.due || d.generations.newest() == nil {
		return nil
	}
	d.hooks.due = false
	errs := []error{d.keepPins()}
	standIns := standIns{}
	defer standIns.close()
	for _, index := range slices.Sorted(maps.Keys(d.plan.links)) {
		err := d.keepHooksOf(index, now, standIns)
		delete(d.hooks.failed, index)
		if err != nil {
			d.hooks.failed[index] = err
			errs = append(errs, err)
		}
	}
	d.forgetHooks(now)
	return errors.Join(errs...)
}

func (d *Driver) keepHooksOf(index int, now time.Time, s standIns) error {
	a := d.generations.attached[index]
	held, is := d.links.Holds(index)
	if a == nil && is {
		return nil // a former agent's program stays until ours is attached
	}
	if a == nil {
		return d.takeOffFormer(index)
	}
	if held.generation == nil {
		held.generation = d.generations.newest()
	}
	var errs []error
	for _, at := range []bpf.Hook{bpf.Ingress, bpf.Egress} {
		state, err := a.ReadHook(d.hooks.Hooks, at)
		if err == nil && !(state.Sound() && len(state.After) == 0) {
			err = d.keepHook(a, hook{index, at}, state, held.generation, now, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("programs at %s of %s: %w", at, d.plan.links[index].Name, err))
		}
	}
	return errors.Join(errs...)
}

// keepHook repairs one hook. It takes off programs of a former agent last, so that a program judges at every moment.
func (d *Driver) keepHook(a *bpf.Attachment, h hook, state bpf.HookState, g *generation, now time.Time, s standIns) error {
	what := fmt.Sprintf("%s of %s", h.at, d.plan.links[h.index].Name)
	switch {
	case state.Lost:
		if err := errors.Join(d.step("attach again to "+what), g.Reattach(a, d.PinDir, h.at)); err != nil {
			return err
		}
		d.repaired("hooks", 1, what+" (gone)")
	case len(state.Before) > 0:
		if err := d.goFirst(a, h, state.Before, g, now, s); err != nil {
			return err
		}
	}
	for _, f := range state.Former {
		if err := errors.Join(d.step("take off from "+what), f.TakeOff()); err != nil {
			return err
		}
		d.tookOff(1, what)
	}
	for _, f := range state.After {
		if key := what + " " + f.Name; !d.hooks.told[key] {
			d.hooks.told[key] = true
			d.Log.WithField("hook", what).Infof("the program %s of another process runs there after felix and may drop packets that policy allows", f)
		}
	}
	return nil
}

// goFirst puts our program before those of other processes, unless it must still wait after the last time.
func (d *Driver) goFirst(a *bpf.Attachment, h hook, before []bpf.Found, g *generation, now time.Time, s standIns) error {
	r := d.hooks.rivals[h]
	if r == nil {
		r = &rival{name: d.plan.links[h.index].Name}
		d.hooks.rivals[h] = r
	}
	var names []string
	for _, f := range before {
		names = append(names, f.String())
	}
	r.programs, r.first = strings.Join(names, ", "), true
	if r.again.After(now) {
		return nil
	}
	what := fmt.Sprintf("%s of %s", h.at, r.name)
	standIn, err := s.of(g)
	if err = errors.Join(d.step("go first at "+what), err); err != nil {
		return err
	}
	if err := g.MoveFirst(a, d.PinDir, h.at, standIn); err != nil {
		return err
	}
	r.first, r.last = false, now
	r.again = now.Add(min(rivalPause<<min(r.rounds, 10), readBack))
	r.rounds++
	d.repaired("hooks", 1, fmt.Sprintf("%s (%s was before felix)", what, r.programs))
	return nil
}

// takeOffFormer takes the programs of a former agent off an interface that no policy concerns.
func (d *Driver) takeOffFormer(index int) error {
	name := d.plan.links[index].Name
	n, err := d.hooks.TakeOff(uint32(index))
	if err != nil {
		return fmt.Errorf("programs of a former felix on %s: %w", name, err)
	}
	d.tookOff(n, name)
	delete(d.hooks.former, index)
	return nil
}

func (d *Driver) tookOff(n int, where string) {
	if n == 0 {
		return
	}
	d.audits.repairs["former programs"] += uint64(n)
	d.Log.WithField("hook", where).Warn("a program of a former felix, pinned in another directory, still judged packets by its old policy; it is taken off")
}

// forgetHooks forgets interfaces that have gone, and rivals that have not come back.
func (d *Driver) forgetHooks(now time.Time) {
	for h, r := range d.hooks.rivals {
		if d.generations.attached[h.index] == nil || !r.first && now.Sub(r.last) > rivalForgotten {
			delete(d.hooks.rivals, h)
		}
	}
	for index := range d.hooks.failed {
		if _, there := d.plan.links[index]; !there {
			delete(d.hooks.failed, index)
		}
	}
}

// keepPins pins again the links and maps that others unpinned, and mounts the bpf file system again if they unmounted it. A
// link that is not pinned ends with felix, and its policy with it.
func (d *Driver) keepPins() error {
	restored, err := d.claim.pins.Restore()
	if err == nil {
		err = d.pinAgain(restored)
	}
	d.hooks.pinsErr = err
	return err
}

func (d *Driver) pinAgain(restored bool) error {
	pinned, err := bpf.Pinned(d.PinDir)
	if err != nil {
		return err
	}
	n, err := d.shared.Repin(pinned)
	if d.former != nil {
		m, e := d.former.Repin(d.PinDir, pinned)
		n, err = n+m, errors.Join(err, e)
	}
	for _, a := range d.generations.attached {
		m, e := a.Repin(d.PinDir, pinned)
		n, err = n+m, errors.Join(err, e)
	}
	changes := "unpinned"
	if restored {
		changes = "the file system was unmounted, or the directory removed"
	}
	d.repaired("pins", n, changes)
	return err
}

// standIns loads a stand-in program for a generation when one is needed, and keeps it until close.
type standIns map[*generation]*bpf.StandIn

func (s standIns) of(g *generation) (*bpf.StandIn, error) {
	if s[g] != nil {
		return s[g], nil
	}
	standIn, err := g.StandIn()
	if err == nil {
		s[g] = standIn
	}
	return standIn, err
}

func (s standIns) close() {
	for _, standIn := range s {
		standIn.Close()
	}
}

// wrong says why policy may not be in force on an interface that has our programs. It is empty if policy is in force.
func (c *hookCare) wrong(index int) string {
	if err := c.failed[index]; err != nil {
		return err.Error()
	}
	for _, at := range []bpf.Hook{bpf.Ingress, bpf.Egress} {
		if r := c.rivals[hook{index, at}]; r != nil && r.first {
			return fmt.Sprintf("%s of another process is before felix at %s and may accept what policy denies", r.programs, at)
		}
	}
	return ""
}

// problems names the reasons why a program of ours is not attached, not first or not pinned.
func (c *hookCare) problems() (texts []string) {
	for _, err := range c.failed {
		texts = append(texts, strings.Split(err.Error(), "\n")...)
	}
	if c.pinsErr != nil {
		texts = append(texts, c.pinsErr.Error())
	}
	for h, r := range c.rivals {
		times := r.rounds
		if r.first {
			times++
		} else if times < 2 {
			continue
		}
		texts = append(texts, fmt.Sprintf("%s of another process was attached before felix at tcx %s of %s %d times and may accept there what policy denies; "+
			"felix goes first again each time, at most every %v: find what attaches it (bpftool net show dev %s) and have it attach after others, or stop it",
			r.programs, h.at, r.name, times, readBack, r.name))
	}
	return texts
}
