package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Found is a program that is attached at a hook.
type Found struct {
	Program ebpf.ProgramID
	Link    link.ID // 0: attached without a link
	Name    string
	Ours    bool // it is a version of our program, whichever process loaded it
}

func (f Found) String() string { return fmt.Sprintf("%q (program %d)", f.Name, f.Program) }

// TakeOff detaches the program, even if another process holds or has pinned its link. A program without a link cannot
// be detached this way.
func (f Found) TakeOff() error {
	l, err := link.NewFromID(f.Link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(l.Detach(), l.Close())
	}
	return explain("detach program "+f.String(), err)
}

// Hooks reads which programs are attached to interfaces of the calling thread's network namespace. It remembers
// programs that it has identified.
type Hooks struct{ known map[ebpf.ProgramID]Found }

// maxKnown bounds the programs that are remembered.
const maxKnown = 4096

// NewHooks returns Hooks that have identified no program yet.
func NewHooks() *Hooks { return &Hooks{map[ebpf.ProgramID]Found{}} }

// Read returns the programs at a hook, in their order; none if the interface does not exist.
func (h *Hooks) Read(ifindex uint32, hook Hook) ([]Found, error) {
	list, _, err := h.readChanged(ifindex, hook, 0)
	return list, err
}

// readChanged is Read for a hook that has changed since a revision: otherwise the list is empty and the revision is the
// same. Revisions begin with 1; 0 reads in any case.
func (h *Hooks) readChanged(ifindex uint32, hook Hook, since uint64) (list []Found, revision uint64, err error) {
	result, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: hook.attachType()})
	if errors.Is(err, unix.ENODEV) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the programs at %s of interface %d: %w", hook, ifindex, err)
	}
	if since > 0 && result.Revision == since {
		return nil, since, nil
	}
	for _, p := range result.Programs {
		found, err := h.identify(p.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read program %d at %s of interface %d: %w", p.ID, hook, ifindex, err)
		}
		found.Link, _ = p.LinkID()
		list = append(list, found)
	}
	return list, result.Revision, nil
}

// ourTables are tables that each version of our program has had.
func ourTables() []string {
	return []string{"interfaces", "slots", "vectors", "epoch", "config", "flows", "rule_hits"}
}

// identify finds out whether a program is ours: by its tables, because any program may have the same name.
func (h *Hooks) identify(id ebpf.ProgramID) (Found, error) {
	if found, met := h.known[id]; met {
		return found, nil
	}
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return Found{}, err
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return Found{}, err
	}
	found := Found{Program: id, Name: info.Name}
	if info.Name == Ingress.String() || info.Name == Egress.String() {
		tables, err := tablesOf(program, ourTables()...)
		if err != nil {
			return Found{}, err
		}
		found.Ours = len(tables) == len(ourTables())
		closeAll(tables)
	}
	if len(h.known) > maxKnown { // another process loads programs again and again
		clear(h.known)
	}
	h.known[id] = found
	return found, nil
}

// Running returns the interfaces that run a program of ours, whichever process attached it.
func (h *Hooks) Running(ifindexes []uint32) (map[uint32]bool, error) {
	running := map[uint32]bool{}
	var errs []error
	for _, ifindex := range ifindexes {
		ours, err := h.ours(ifindex)
		errs = append(errs, err)
		if len(ours) > 0 {
			running[ifindex] = true
		}
	}
	return running, errors.Join(errs...)
}

// TakeOff detaches all programs of ours from an interface, and returns how many there were.
func (h *Hooks) TakeOff(ifindex uint32) (int, error) {
	ours, err := h.ours(ifindex)
	errs := []error{err}
	for _, f := range ours {
		errs = append(errs, f.TakeOff())
	}
	return len(ours), errors.Join(errs...)
}

// ours returns the programs of ours at both hooks of an interface that have a link, as all have that an agent attaches.
func (h *Hooks) ours(ifindex uint32) (ours []Found, err error) {
	for _, hook := range []Hook{Ingress, Egress} {
		list, e := h.Read(ifindex, hook)
		err = errors.Join(err, e)
		for _, f := range list {
			if f.Ours && f.Link != 0 {
				ours = append(ours, f)
			}
		}
	}
	return ours, err
}

// HookState is the state of a hook at which an Attachment should be first.
type HookState struct {
	Lost   bool    // the Attachment's link is gone or detached, or runs a program that is not ours
	Before []Found // programs of others that come first: they may let packets pass that ours never sees
	After  []Found // programs of others that see only packets that ours lets pass
	Former []Found // other programs of ours
}

// Sound says whether nothing has to be repaired.
func (s HookState) Sound() bool { return !s.Lost && len(s.Before) == 0 && len(s.Former) == 0 }

// ReadHook reads the state of a hook. It is quick for a hook that was sound and has not changed since: its state is
// then empty, also without After.
func (a *Attachment) ReadHook(h *Hooks, hook Hook) (s HookState, err error) {
	list, revision, err := h.readChanged(a.Ifindex, hook, a.sound[hook])
	if err != nil || revision == 0 || revision == a.sound[hook] {
		return HookState{}, err
	}
	a.sound[hook] = 0
	info, err := a.links[hook].Info()
	if err != nil {
		return HookState{}, fmt.Errorf("read the link at %s of interface %d: %w", hook, a.Ifindex, err)
	}
	s.Lost = true
	for _, f := range list {
		switch {
		case f.Link == info.ID:
			s.Lost = !f.Ours
		case f.Ours && f.Link != 0:
			s.Former = append(s.Former, f)
		case s.Lost:
			s.Before = append(s.Before, f)
		default:
			s.After = append(s.After, f)
		}
	}
	if s.Sound() {
		a.sound[hook] = revision
	}
	return s, nil
}

// Reattach attaches the program anew, before all others, after the link of the Attachment was lost.
func (g *Generation) Reattach(a *Attachment, dir string, hook Hook) error {
	l, err := g.attachFirst(a.Ifindex, hook)
	if err != nil {
		return err
	}
	return a.replace(l, dir, hook)
}

// MoveFirst moves the program before all others at a hook. No packet passes unjudged meanwhile, but some are judged
// twice. A program cannot be at a hook twice, so the stand-in takes the old place first.
func (g *Generation) MoveFirst(a *Attachment, dir string, hook Hook, s *StandIn) error {
	if err := a.links[hook].Update(s.program(hook)); err != nil {
		return explain("swap the program", err)
	}
	l, err := g.attachFirst(a.Ifindex, hook)
	if err != nil {
		return errors.Join(err, a.links[hook].Update(g.program(hook)))
	}
	return a.replace(l, dir, hook)
}

// replace makes another link the Attachment's own, pins it in place of the former one, and detaches that. At every
// moment one of the two is attached and pinned. If pinning fails, the new link counts all the same, and Repin tries
// again.
func (a *Attachment) replace(l link.Link, dir string, hook Hook) error {
	path := linkPath(dir, a.Ifindex, hook)
	aside := asidePath(path)
	err := errors.Join(removePin(aside), l.Pin(aside), removePin(path), l.Pin(path))
	old := a.links[hook]
	a.links[hook], a.sound[hook] = l, 0
	return errors.Join(explain("pin the link at "+path, err), old.Detach(), old.Close())
}

// asidePath is where a link is pinned while another one still has its path.
func asidePath(path string) string {
	return filepath.Join(filepath.Dir(path), "next_"+filepath.Base(path))
}

func removePin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old pin: %w", err)
	}
	return nil
}
