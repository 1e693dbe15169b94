package interfaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl names a file under /proc/sys. A setting of an interface carries the interface's life: the kernel drops the setting with
// the interface.
type Sysctl struct {
	Path string
	Life uint64
}

func (s Sysctl) String() string { return s.Path }

const (
	forwardV4 = "net/ipv4/ip_forward"
	forwardV6 = "net/ipv6/conf/all/forwarding"
)

// Sysctls returns the settings that the interfaces of workloads need, and forwarding by the host for the families that workloads
// use.
//
//   - The host answers ARP for the gateway and for every other workload (proxy_arp), at once (proxy_delay).
//   - Our program checks sources, so the kernel's reverse path filter is loose (2).
//   - Router advertisements of a workload are ignored (accept_ra).
func Sysctls(workloads []Link, v4, v6 bool) map[Sysctl]string {
	wanted := map[Sysctl]string{}
	for _, link := range workloads {
		for path, value := range map[string]string{
			"net/ipv4/conf/%s/proxy_arp":    "1",
			"net/ipv4/conf/%s/rp_filter":    "2",
			"net/ipv4/conf/%s/forwarding":   "1",
			"net/ipv4/neigh/%s/proxy_delay": "0",
			"net/ipv6/conf/%s/accept_ra":    "0",
			"net/ipv6/conf/%s/proxy_ndp":    "1",
			"net/ipv6/conf/%s/forwarding":   "1",
		} {
			if strings.HasPrefix(path, "net/ipv6") && !v6 {
				continue
			}
			wanted[Sysctl{Path: fmt.Sprintf(path, link.Name), Life: link.Life}] = value
		}
	}
	if v4 {
		wanted[Sysctl{Path: forwardV4}] = "1"
	}
	if v6 {
		wanted[Sysctl{Path: forwardV6}] = "1"
	}
	return wanted
}

// Proc is a table.Target for /proc/sys in the network namespace of the calling thread. A setting that is no longer wanted stays:
// settings of an interface go with it, and the host may forward for other programs too. Restore puts all of them back.
type Proc struct {
	Root   string // default /proc/sys
	Former Former // nil: former values are not remembered

	ours map[Sysctl]string // the values that were written last
}

func (p *Proc) root() string {
	if p.Root == "" {
		return "/proc/sys"
	}
	return p.Root
}

// Put writes one setting, unless it has the value already.
func (p *Proc) Put(s Sysctl, value string) error {
	if err := p.put(s, value); err != nil {
		return err
	}
	if p.ours == nil {
		p.ours = map[Sysctl]string{}
	}
	p.ours[s] = value
	return nil
}

func (p *Proc) put(s Sysctl, value string) error {
	if s.Path == forwardV6 {
		if err := p.keepRouters(); err != nil {
			return err
		}
	}
	now, err := p.read(s.Path)
	if err == nil && now == value {
		return nil
	}
	err = p.change(s.Path, now, value)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("set it to %s: the kernel does not have this setting, or the interface has gone: %w", value, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("set it to %s: not permitted: run as root with /proc/sys writable, or set it by hand: %w", value, err)
	}
	return err
}

func (p *Proc) read(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(p.root(), path))
	return strings.TrimSpace(string(text)), err
}

// keepRouters lets the host go on learning IPv6 routers when it begins to forward. The kernel would ignore router advertisements
// where accept_ra is 1, and the host would lose its default route.
func (p *Proc) keepRouters() error {
	deaf, err := p.deaf()
	for _, path := range deaf {
		if e := p.change(path, "1", "2"); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("keep learning IPv6 routers before forwarding: %w", err)
	}
	return nil
}

// deaf returns the settings accept_ra of the host's own interfaces that do not learn routers when the host forwards.
func (p *Proc) deaf() (paths []string, err error) {
	all, err := filepath.Glob(filepath.Join(p.root(), "net/ipv6/conf/*/accept_ra"))
	ours := map[string]bool{}
	for s := range p.ours {
		ours[s.Path] = true
	}
	for _, path := range all {
		path, _ = filepath.Rel(p.root(), path)
		if ours[path] {
			continue
		}
		now, e := p.read(path)
		if e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
		if e == nil && now == "1" {
			paths = append(paths, path)
		}
	}
	return paths, err
}

// Delete leaves the setting as it is.
func (p *Proc) Delete(s Sysctl) error {
	delete(p.ours, s)
	return nil
}

// List reads the settings that this process has written. It does not know those of a former process: Put reads each setting before
// it writes.
func (p *Proc) List() (map[Sysctl]string, error) {
	held := map[Sysctl]string{}
	for s, written := range p.ours {
		now, err := p.read(s.Path)
		if errors.Is(err, os.ErrNotExist) {
			now, err = written, nil // the interface has gone, and the next plan does not want the setting
		}
		if err != nil {
			return nil, err
		}
		held[s] = now
	}
	if err := p.prune(); err != nil {
		return nil, err
	}
	if now, there := held[Sysctl{Path: forwardV6}]; there && now == "1" {
		deaf, err := p.deaf()
		if err != nil {
			return nil, err
		}
		if len(deaf) > 0 {
			held[Sysctl{Path: forwardV6}] = now + ", but " + strings.Join(deaf, ", ") + " is 1"
		}
	}
	return held, nil
}

// write changes an existing file.
func write(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
