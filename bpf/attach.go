package bpf

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Attachment is the pair of programs of a generation at one interface. Its links are pinned, so that they outlive the
// agent.
type Attachment struct {
	Ifindex uint32
	Adopted bool         // Attach found pinned links of a former process, and they run this generation now
	links   [2]link.Link // by Hook; nil after Close
	sound   [2]uint64    // by Hook: the revision in which ReadHook found it sound; 0: ReadHook must look at it
}

// Attach puts the programs of the generation before all others at an interface, in both directions. Links that are
// pinned in dir are adopted: only their program is replaced, so that no packet passes unjudged.
//
// After an error one direction may be attached, and stays pinned: the next Attach adopts it. Attach an interface only
// after it has its entry in Interfaces: without one, every packet is dropped.
func (g *Generation) Attach(dir string, ifindex uint32) (*Attachment, error) {
	if err := requireFS(dir); err != nil {
		return nil, err
	}
	a := &Attachment{Ifindex: ifindex}
	for _, hook := range []Hook{Ingress, Egress} {
		l, adopted, err := g.attachHook(dir, ifindex, hook)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach to %s of interface %d: %w", hook, ifindex, err), a.Close())
		}
		a.links[hook] = l
		a.Adopted = a.Adopted || adopted
	}
	return a, nil
}

func (g *Generation) attachHook(dir string, ifindex uint32, hook Hook) (l link.Link, adopted bool, err error) {
	path := linkPath(dir, ifindex, hook)
	l, err = adopt(path, ifindex)
	if err != nil {
		return nil, false, err
	}
	if l != nil {
		if err := l.Update(g.program(hook)); err != nil {
			return nil, false, errors.Join(explain("swap the program", err), l.Close())
		}
		return l, true, nil
	}
	if l, err = g.attachFirst(ifindex, hook); err != nil {
		return nil, false, err
	}
	if err := errors.Join(removePin(path), removePin(asidePath(path))); err != nil {
		return nil, false, errors.Join(err, l.Close())
	}
	if err := l.Pin(path); err != nil {
		return nil, false, errors.Join(explain("pin the link at "+path, err), l.Close())
	}
	return l, false, nil
}

// attachFirst attaches a program before all others. Until the link is pinned, it ends with the process.
func (g *Generation) attachFirst(ifindex uint32, hook Hook) (link.Link, error) {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: int(ifindex),
		Program:   g.program(hook),
		Attach:    hook.attachType(),
		Anchor:    link.Head(),
	})
	if err != nil {
		return nil, explainTCX(err)
	}
	return l, nil
}

// adopt opens a pinned link if it is attached to the interface. It returns nil for any other pin, which may be
// replaced.
func adopt(path string, ifindex uint32) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if isTransient(err) {
		return nil, explain("open the pinned link at "+path, err)
	}
	if err != nil {
		return nil, nil
	}
	if attachedTo(l) != ifindex {
		return nil, l.Close()
	}
	return l, nil
}

// isTransient tells errors that say nothing about the object: this process has no memory, no file descriptor or no
// right.
func isTransient(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// attachedTo returns the interface of a link; 0 if the interface is gone.
func attachedTo(l link.Link) uint32 {
	info, err := l.Info()
	if err != nil || info.TCX() == nil {
		return 0
	}
	return info.TCX().Ifindex
}

func (g *Generation) program(hook Hook) *ebpf.Program {
	if hook == Egress {
		return g.objects.Egress
	}
	return g.objects.Ingress
}

func (h Hook) attachType() ebpf.AttachType {
	if h == Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

func linkPath(dir string, ifindex uint32, hook Hook) string {
	return filepath.Join(dir, fmt.Sprintf("link_%d_%s", ifindex, hook))
}

func explainTCX(err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("this kernel lacks tcx: 6.6 or newer is needed: %w", err)
	}
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("there is no such interface: %w", err)
	}
	return explain("attach", err)
}

// Swap makes the links run another generation. After an error the two directions may run different generations: both
// must stay current until a Swap succeeds.
func (a *Attachment) Swap(to *Generation) error {
	var err error
	for _, hook := range []Hook{Ingress, Egress} {
		if e := a.links[hook].Update(to.program(hook)); e != nil {
			err = errors.Join(err, explain(fmt.Sprintf("swap the program at %s of interface %d", hook, a.Ifindex), e))
		}
	}
	return err
}

// Live says whether the interface still exists.
func (a *Attachment) Live() bool {
	return attachedTo(a.links[Ingress]) == a.Ifindex && attachedTo(a.links[Egress]) == a.Ifindex
}

// Detach takes the programs off. Packets at the interface are not judged any more.
func (a *Attachment) Detach() error {
	var err error
	for _, l := range a.links {
		if l != nil {
			err = errors.Join(err, l.Unpin())
		}
	}
	return errors.Join(err, a.Close())
}

// Close releases the handles. The pinned links stay, and go on judging packets.
func (a *Attachment) Close() error {
	var err error
	for hook, l := range a.links {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
		a.links[hook] = nil
	}
	return err
}

// Attached returns the interfaces that have links pinned in dir, and for each whether it still exists.
func Attached(dir string) (map[uint32]bool, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "link_*_*"))
	if err != nil {
		return nil, fmt.Errorf("find pinned links: %w", err)
	}
	out := map[uint32]bool{}
	for _, path := range paths {
		var ifindex uint32
		if _, err := fmt.Sscanf(filepath.Base(path), "link_%d_", &ifindex); err != nil {
			continue
		}
		l, err := adopt(path, ifindex)
		if err != nil {
			return nil, err
		}
		out[ifindex] = out[ifindex] || l != nil
		if l != nil {
			l.Close()
		}
	}
	return out, nil
}

// Detach removes the links that are pinned in dir for an interface, whichever process attached them.
func Detach(dir string, ifindex uint32) error {
	var err error
	for _, hook := range []Hook{Ingress, Egress} {
		path := linkPath(dir, ifindex, hook)
		if e := errors.Join(removePin(path), removePin(asidePath(path))); e != nil {
			err = errors.Join(err, fmt.Errorf("detach from %s of interface %d: %w", hook, ifindex, e))
		}
	}
	return err
}
