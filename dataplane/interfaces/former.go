package interfaces

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
)

// Former remembers the values of settings from before felix changed them. After several changes of a setting it has the Before of
// the first and the Changed of the last.
type Former interface {
	Remember(bpf.FormerSetting) error
	Forget(bpf.FormerSetting) error
	All() ([]bpf.FormerSetting, error)
}

// change writes a setting and remembers its former value.
func (p *Proc) change(path, before, value string) error {
	var err error
	if p.Former != nil && before != "" { // otherwise the setting does not exist, and the write fails
		err = p.Former.Remember(bpf.FormerSetting{Path: path, Interface: indexOf(path), Before: before, Changed: value})
	}
	// Workloads need the setting even if it cannot be remembered.
	return errors.Join(write(filepath.Join(p.root(), path), value), err)
}

// Restore puts back every setting that still has the value that felix gave it. It returns those settings as path=value.
func (p *Proc) Restore() (restored []string, err error) {
	if p.Former == nil {
		return nil, nil
	}
	list, err := p.Former.All()
	// Settings of the whole host first: forwarding sets that of each interface.
	slices.SortFunc(list, func(a, b bpf.FormerSetting) int {
		return cmp.Or(cmp.Compare(min(a.Interface, 1), min(b.Interface, 1)), strings.Compare(a.Path, b.Path))
	})
	for _, s := range list {
		now, e := p.read(s.Path)
		if indexOf(s.Path) != s.Interface || errors.Is(e, os.ErrNotExist) || e == nil && now != s.Changed {
			continue // the interface is another one, or another program has changed the setting since
		}
		if e == nil {
			e = write(filepath.Join(p.root(), s.Path), s.Before)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("put %s back to %s: %w", s.Path, s.Before, e))
			continue
		}
		restored = append(restored, s.Path+"="+s.Before)
	}
	return restored, err
}

// prune forgets the settings of interfaces that have gone.
func (p *Proc) prune() error {
	if p.Former == nil {
		return nil
	}
	list, err := p.Former.All()
	for _, s := range list {
		if s.Interface != 0 && indexOf(s.Path) != s.Interface {
			err = errors.Join(err, p.Former.Forget(s))
		}
	}
	return err
}

// indexOf returns the index of the interface that a setting belongs to; 0: it belongs to none, or the interface has gone.
func indexOf(path string) uint32 {
	parts := strings.Split(path, "/") // net/ipv4/conf/NAME/SETTING
	if len(parts) != 5 || parts[3] == "all" || parts[3] == "default" {
		return 0
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq(parts[3])
	if err != nil || unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, request) != nil { // net.InterfaceByName lists all of them
		return 0
	}
	return request.Uint32()
}
