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

// Found is a program that was found at a hook.
type Found struct {
	Program ebpf.ProgramID
	Link    link.ID // 0: attached without one
	Name    string
	Ours    bool // it judges packets as we do, whichever process loaded it
}

func (f Found) String() string { return fmt.Sprintf("%q (program %d)", f.Name, f.Program) }

// TakeOff detaches the program, whoever holds its link and wherever that is pinned. It must be attached by a link.
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

// Hooks reads which programs run at the hooks of interfaces. It remembers the programs that it has met. The interfaces are
// always those of the network namespace of the calling thread.
type Hooks struct{ known map[ebpf.ProgramID]Found }

// mostKnown is how many programs are remembered.
const mostKnown = 4096

// NewHooks returns Hooks that have met no program yet.
func NewHooks() *Hooks { return &Hooks{map[ebpf.ProgramID]Found{}} }

// Read lists the programs at a hook, in their order. An interface that does not exist has none.
func (h *Hooks) Read(ifindex uint32, hook Hook) ([]Found, error) {
	list, _, err := h.readChanged(ifindex, hook, 0)
	return list, err
}

// readChanged is Read, unless the hook has not changed since a revision. The first revision of a hook is 1.
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
			return nil, 0, fmt.Errorf("look at program %d at %s of interface %d: %w", p.ID, hook, ifindex, err)
		}
		found.Link, _ = p.LinkID()
		list = append(list, found)
	}
	return list, result.Revision, nil
}

// ourTables are tables that every program of ours has had.
func ourTables() []string {
	return []string{"interfaces", "slots", "vectors", "epoch", "config", "flows", "rule_hits"}
}

// identify tells whose a program is. Anybody may call a program as ours are called; nobody has our tables.
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
	if len(h.known) > mostKnown { // somebody loads programs again and again
		clear(h.known)
	}
	h.known[id] = found
	return found, nil
}

// Running lists those of the interfaces that run a program of ours, of whichever process.
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

// TakeOff detaches all programs of ours from an interface and returns how many there were.
func (h *Hooks) TakeOff(ifindex uint32) (int, error) {
	ours, err := h.ours(ifindex)
	errs := []error{err}
	for _, f := range ours {
		errs = append(errs, f.TakeOff())
	}
	return len(ours), errors.Join(errs...)
}

// ours are the programs of ours that run at both hooks of an interface and have a link, as all have that we attach.
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

// HookState says how a hook is found where an Attachment should be first.
type HookState struct {
	Lost   bool    // the Attachment's own link is gone, detached, or runs a program of somebody else
	Before []Found // programs of others that come first, and can let packets pass that ours never sees
	After  []Found // programs of others that see what ours lets pass
	Former []Found // other programs of ours
}

// Sound says that all is as it should be.
func (s HookState) Sound() bool { return !s.Lost && len(s.Before) == 0 && len(s.Former) == 0 }

// ReadHook reads one hook of the Attachment. A hook that was sound and that nobody has touched since is not looked at again.
func (a *Attachment) ReadHook(h *Hooks, hook Hook) (s HookState, err error) {
	list, revision, err := h.readChanged(a.Ifindex, hook, a.sound[hook])
	if err != nil || revision == 0 || revision == a.sound[hook] {
		return HookState{}, err
	}
	a.sound[hook] = 0
	info, err := a.links[hook].Info()
	if err != nil {
		return HookState{}, fmt.Errorf("look at the link at %s of interface %d: %w", hook, a.Ifindex, err)
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

// Reattach attaches the generation's program anew where the link of the Attachment is lost, before all others.
func (g *Generation) Reattach(a *Attachment, dir string, hook Hook) error {
	l, err := g.attachFirst(a.Ifindex, hook)
	if err != nil {
		return err
	}
	return a.replace(l, dir, hook)
}

// MoveFirst puts the generation's program before all others at a hook. No packet passes it unseen meanwhile, but some are
// judged twice. A program cannot be twice at one hook, so a stand-in takes its old place.
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

// replace makes another link that of the Attachment, pins it in place of the one before, and takes that off. One of the two
// is attached and pinned at every moment. A link that cannot be pinned counts all the same: Repin tries again.
func (a *Attachment) replace(l link.Link, dir string, hook Hook) error {
	path := linkPath(dir, a.Ifindex, hook)
	aside := asidePath(path)
	err := errors.Join(removePin(aside), l.Pin(aside), removePin(path), l.Pin(path))
	old := a.links[hook]
	a.links[hook], a.sound[hook] = l, 0
	return errors.Join(explain("pin the link at "+path, err), old.Detach(), old.Close())
}

// asidePath is where a link is pinned for a moment, while another has its place.
func asidePath(path string) string {
	return filepath.Join(filepath.Dir(path), "next_"+filepath.Base(path))
}

func removePin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale pin: %w", err)
	}
	return nil
}
