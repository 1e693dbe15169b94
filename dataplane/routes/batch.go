package routes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batcher sends many changes of routes to the kernel at once. One by one, each change costs a system call for the request and one
// for the answer. The kernel handles the messages of a batch in their order and reports every error with the number of its
// message, so one that fails does not stop the others (net/netlink/af_netlink.c, netlink_rcv_skb).
type batcher struct {
	socket *nl.NetlinkSocket
	port   uint32 // the kernel writes it into the notifications about our changes
	number uint32 // of the last message
}

// batchSize is the number of messages of a batch. Larger ones are hardly faster.
const batchSize = 500

func newBatcher() (*batcher, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE) // to no group
	if err != nil {
		return nil, err
	}
	b := &batcher{socket: socket}
	fd := socket.GetFd()
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // errors come without a copy of the message
		// Every message of a batch may fail, and the answers must fit; a request may be large as well.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20),
		socket.SetReceiveTimeout(&unix.Timeval{Sec: 60}),
	)
	if b.port, err = portOf(socket, err); err != nil {
		socket.Close()
		return nil, err
	}
	return b, nil
}

func portOf(socket *nl.NetlinkSocket, before error) (uint32, error) {
	port, err := socket.GetPid()
	return port, errors.Join(before, err)
}

// change is one change of a route.
type change struct {
	prefix   netip.Prefix
	hops     []Hop // empty: the route is deleted
	protocol int
	metric   int
	flags    uint16 // NLM_F_CREATE with NLM_F_EXCL or NLM_F_REPLACE
}

// send makes the changes, and returns the error of each.
func (b *batcher) send(changes []change) []error {
	errs := make([]error, 0, len(changes))
	for len(changes) > 0 {
		n := min(len(changes), batchSize)
		errs = append(errs, b.sendBatch(changes[:n])...)
		changes = changes[n:]
	}
	return errs
}

func (b *batcher) sendBatch(changes []change) []error {
	errs := make([]error, len(changes))
	first := b.number + 1
	var request []byte
	for i, c := range changes {
		b.number++
		request = append(request, c.message(b.number, i == len(changes)-1)...)
	}
	err := unix.Sendto(b.socket.GetFd(), request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for done := false; err == nil && !done; {
		var answers []syscall.NetlinkMessage
		if answers, _, err = b.socket.Receive(); err != nil {
			break
		}
		for _, a := range answers {
			at := a.Header.Seq - first // wraps for answers to former batches
			if a.Header.Type != unix.NLMSG_ERROR || at >= uint32(len(changes)) || len(a.Data) < 4 {
				continue
			}
			if number := -int32(binary.NativeEndian.Uint32(a.Data)); number != 0 {
				errs[at] = unix.Errno(number)
			}
			done = done || a.Header.Seq == b.number
		}
	}
	if err != nil { // which messages were handled is not known
		for i := range errs {
			errs[i] = fmt.Errorf("change routes: %w", err)
		}
	}
	return errs
}

// message is the change as a netlink message. Only the last one of a batch asks for an answer when it succeeds.
func (c change) message(number uint32, last bool) []byte {
	kind, flags := uint16(unix.RTM_NEWROUTE), unix.NLM_F_REQUEST|c.flags
	m := nl.NewRtMsg()
	if len(c.hops) == 0 {
		kind, m = unix.RTM_DELROUTE, nl.NewRtDelMsg()
	}
	if last {
		flags |= unix.NLM_F_ACK
	}
	m.Family, m.Dst_len = uint8(familyOf(c.prefix)), uint8(c.prefix.Bits())
	m.Table, m.Protocol = unix.RT_TABLE_MAIN, uint8(c.protocol)
	r := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: kind, Flags: flags, Seq: number}}
	r.AddData(m)
	r.AddData(nl.NewRtAttr(unix.RTA_DST, c.prefix.Addr().AsSlice()))
	r.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(c.metric))))
	switch len(c.hops) {
	case 0:
	case 1:
		r.AddData(gateway(c.prefix, c.hops[0]))
		r.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(c.hops[0].Interface))))
	default:
		r.AddData(nl.NewRtAttr(unix.RTA_MULTIPATH, multipath(c.prefix, c.hops)))
	}
	return r.Serialize()
}

// gateway is the attribute for the address of a hop. An IPv4 route by a gateway with an IPv6 address has an attribute of its own:
// struct rtvia in linux/rtnetlink.h, the address family and the address.
func gateway(prefix netip.Prefix, h Hop) *nl.RtAttr {
	if prefix.Addr().Is4() == h.Gateway.Is4() {
		return nl.NewRtAttr(unix.RTA_GATEWAY, h.Gateway.AsSlice())
	}
	return nl.NewRtAttr(unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), h.Gateway.AsSlice()...))
}

func multipath(prefix netip.Prefix, hops []Hop) (list []byte) {
	for _, h := range hops {
		hop := nl.RtNexthop{
			RtNexthop: unix.RtNexthop{Ifindex: int32(h.Interface)},
			Children:  []nl.NetlinkRequestData{gateway(prefix, h)},
		}
		list = append(list, hop.Serialize()...)
	}
	return list
}
