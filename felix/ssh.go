package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

// listener is a TCP port on which a program waits for connections.
type listener struct {
	at    netip.AddrPort
	inode uint32
}

// sshServers returns the addresses and ports on which SSH servers of this machine listen for other machines, and the program.
func sshServers() (map[netip.AddrPort]string, error) {
	all, err := listeners()
	if err != nil {
		return nil, err
	}
	inodes := map[string]netip.AddrPort{}
	for _, l := range all {
		if !l.at.Addr().IsLoopback() {
			inodes[fmt.Sprintf("socket:[%d]", l.inode)] = l.at
		}
	}
	found := map[netip.AddrPort]string{}
	if len(inodes) == 0 {
		return found, nil
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range names {
		comm, _ := os.ReadFile(file) // the process may have ended
		program := strings.TrimSpace(string(comm))
		if program != "sshd" && program != "dropbear" && program != "systemd" {
			continue
		}
		fds, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "fd", "*"))
		for _, fd := range fds {
			target, _ := os.Readlink(fd)
			at, listens := inodes[target]
			if listens && (program != "systemd" || at.Port() == 22) { // ssh.socket: systemd listens for sshd
				found[at] = strings.Replace(program, "systemd", "systemd, for sshd,", 1)
			}
		}
	}
	return found, err
}

// listeners asks the kernel for the listening TCP sockets of this network namespace (linux/inet_diag.h).
func listeners() (list []listener, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		const tcpListen = 10
		question := make([]byte, 56) // struct inet_diag_req_v2
		question[0], question[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(question[4:], 1<<tcpListen)
		request.AddRawData(question)
		answers, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		for _, m := range answers { // struct inet_diag_msg
			if len(m) < 72 {
				continue
			}
			addr := netip.AddrFrom16([16]byte(m[8:24]))
			if family == unix.AF_INET {
				addr = netip.AddrFrom4([4]byte(m[8:12]))
			}
			at := netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(m[4:]))
			list = append(list, listener{at, binary.NativeEndian.Uint32(m[68:])})
		}
	}
	return list, nil
}

// sshProblems reports SSH servers of this machine that nobody can reach, because host endpoints close their ports.
func (a *agent) sshProblems(interfaces []dataplane.Interface) (list []*agentv1.Problem) {
	ways := slices.DeleteFunc(slices.Clone(interfaces), func(i dataplane.Interface) bool { return a.facts.Uplinks[i.Name] == "" })
	if !slices.ContainsFunc(ways, func(i dataplane.Interface) bool { return i.Endpoint.Kind == api.KindHostEndpoint }) {
		return nil
	}
	servers, err := sshServers()
	if err != nil {
		a.log.WithError(err).Debug("SSH servers cannot be listed")
	}
	for at, program := range servers {
		if closed := closedFor(a.driver.State(), ways, at); closed != (calc.EndpointID{}) {
			list = append(list, &agentv1.Problem{
				Object: api.Key{Kind: closed.Kind, Name: closed.Name}.String(),
				Text: fmt.Sprintf("nobody can connect to port %d, on which %s listens on this machine: no failsafe port and no rule allows it; "+
					"add the port to failsafeInboundHostPorts, or allow it in a policy", at.Port(), program),
			})
		}
	}
	return list
}

// closedFor returns a host endpoint that closes a port, if the port is closed on all of these interfaces; otherwise zero.
func closedFor(s *calc.State, ways []dataplane.Interface, at netip.AddrPort) (closed calc.EndpointID) {
	for _, way := range ways {
		for _, to := range addressesOf(way.Index) {
			if !at.Addr().IsUnspecified() && at.Addr() != to {
				continue
			}
			if at.Addr().IsUnspecified() && at.Addr().Is4() && !to.Is4() {
				continue
			}
			if way.Endpoint.Kind != api.KindHostEndpoint || calc.Reaches(s, way.Endpoint, calc.Sources(s, way.Endpoint), to, at.Port()) {
				return calc.EndpointID{}
			}
			closed = way.Endpoint
		}
	}
	return closed
}

// addressesOf returns the addresses of an interface by which other machines may reach it.
func addressesOf(index int) (list []netip.Addr) {
	link, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil
	}
	addresses, _ := link.Addrs()
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			list = append(list, prefix.Addr().Unmap())
		}
	}
	return list
}
