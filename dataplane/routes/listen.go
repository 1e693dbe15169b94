package routes

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/notify"
)

// Heard is a change of one of our routes, by any process.
type Heard struct {
	Prefix   netip.Prefix
	Gone     bool
	Protocol int
	ByKernel bool // not by a process: an interface went down, for example
}

// Listener hears of changes to routes that have our protocol numbers.
type Listener struct {
	notify    *notify.Listener
	wake      func()
	protocols []int    // that the filter passes
	not       []uint32 // netlink ports whose changes it does not pass

	mu    sync.Mutex
	heard []Heard
	lost  bool
}

// most is the number of changes that are kept. If more come, all routes are read.
const most = 1000

// Listen follows the main table for routes with these protocols, without the changes that come from the given netlink ports. wake is
// called after each change, from another goroutine; it must not block.
func Listen(protocols []int, not []uint32, wake func()) (*Listener, error) {
	l := &Listener{wake: wake, protocols: slices.Clone(protocols), not: not}
	var err error
	l.notify, err = notify.Listen(unix.NETLINK_ROUTE, []uint{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		onlyProtocols(protocols, not), notify.Handler{Heard: l.note, Lost: l.noteLost})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Own says which protocols are ours.
func (l *Listener) Own(protocols []int) error {
	if slices.Equal(protocols, l.protocols) {
		return nil
	}
	l.protocols = slices.Clone(protocols)
	return l.notify.Filter(onlyProtocols(protocols, l.not))
}

// Close ends the Listener's goroutine.
func (l *Listener) Close() { l.notify.Close() }

// Take returns the changes since the last call, in order. It returns false if some were lost.
func (l *Listener) Take() ([]Heard, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard, lost := l.heard, l.lost
	l.heard, l.lost = nil, false
	return heard, !lost
}

func (l *Listener) note(messages []syscall.NetlinkMessage) {
	l.mu.Lock()
	for _, m := range messages {
		if heard, ok := parse(m); ok {
			l.heard = append(l.heard, heard)
		}
	}
	if len(l.heard) > most {
		l.heard, l.lost = nil, true
	}
	news := len(l.heard) > 0 || l.lost
	l.mu.Unlock()
	if news {
		l.wake()
	}
}

func (l *Listener) noteLost() {
	l.mu.Lock()
	l.lost = true
	l.mu.Unlock()
	l.wake()
}

func parse(m syscall.NetlinkMessage) (Heard, bool) {
	if len(m.Data) < unix.SizeofRtMsg {
		return Heard{}, false
	}
	header := nl.DeserializeRtMsg(m.Data)
	attributes, err := nl.ParseRouteAttr(m.Data[header.Len():])
	if err != nil || header.Table != unix.RT_TABLE_MAIN {
		return Heard{}, false
	}
	to := netip.IPv4Unspecified()
	if header.Family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	for _, a := range attributes {
		if addr, ok := netip.AddrFromSlice(a.Value); ok && a.Attr.Type == unix.RTA_DST {
			to = addr
		}
	}
	return Heard{
		Prefix: netip.PrefixFrom(to, int(header.Dst_len)), Gone: m.Header.Type == unix.RTM_DELROUTE,
		Protocol: int(header.Protocol), ByKernel: m.Header.Pid == 0,
	}, true
}

// onlyProtocols makes a filter that passes notifications about routes with these protocols, unless they come from one of the ports: the
// kernel names in each notification the netlink port of the process that made the change. A router that learns a full table causes very
// many others, and so do we when we write many routes.
func onlyProtocols(protocols []int, not []uint32) []unix.SockFilter {
	const (
		portAt     = 12                      // nlmsg_pid in struct nlmsghdr, linux/netlink.h
		protocolAt = unix.SizeofNlMsghdr + 5 // rtm_protocol in struct rtmsg, linux/rtnetlink.h
		pass, drop = 0xffffffff, 0
		load, jump = unix.BPF_LD | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	)
	program := []unix.SockFilter{{Code: load | unix.BPF_W, K: portAt}}
	for i, port := range not {
		// A filter reads the number in network order. Jt skips the other ports, the load, the protocols.
		program = append(program, unix.SockFilter{Code: jump, K: inNetworkOrder(port), Jt: uint8(len(not) - i + len(protocols))})
	}
	program = append(program, unix.SockFilter{Code: load | unix.BPF_B, K: protocolAt})
	for i, protocol := range protocols {
		program = append(program, unix.SockFilter{Code: jump, K: uint32(protocol), Jt: uint8(len(protocols) - i)})
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: drop}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: pass})
}

func inNetworkOrder(v uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, v))
}
