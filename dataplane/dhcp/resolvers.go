package dhcp

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"strings"
)

// HostResolvers returns the DNS servers that this host uses, without those on its loopback, which workloads cannot reach. With
// systemd-resolved the file in /etc names only that, and another file the servers that it asks.
func HostResolvers() ([]netip.Addr, error) {
	return resolversIn("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
}

// resolversIn reads the first of some files that names a server which workloads can reach.
func resolversIn(paths ...string) (found []netip.Addr, err error) {
	for _, path := range paths {
		text, e := os.ReadFile(path)
		if err = errors.Join(err, e); e != nil {
			continue
		}
		lines := bufio.NewScanner(strings.NewReader(string(text)))
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if len(words) < 2 || words[0] != "nameserver" {
				continue
			}
			a, e := netip.ParseAddr(words[1])
			if e == nil && !a.IsLoopback() && !a.IsUnspecified() && a.Zone() == "" && !a.IsLinkLocalUnicast() {
				found = append(found, a.Unmap())
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, errors.Join(err, errors.New("no file names a resolver that a workload can reach"))
}
