package fib

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// OnlyDefaults lets the kernel deliver to a netlink socket, of all notifications about routes, only those about default routes.
// Notifications about other things pass. A router that learns a full table causes hundreds of thousands of notifications in a
// second, which would overflow the socket's buffer.
//
// Each notification is a message of its own, so a filter of the socket sees its header at offset 0.
func OnlyDefaults(fd int) error {
	const (
		lengthAt = unix.SizeofNlMsghdr + offsetLength
		typeAt   = 4 // in struct nlmsghdr (linux/netlink.h)
		jump     = unix.BPF_JMP | unix.BPF_K
	)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt},
		{Code: jump | unix.BPF_JEQ, K: inNetworkOrder(unix.RTM_NEWROUTE), Jt: 1},
		{Code: jump | unix.BPF_JEQ, K: inNetworkOrder(unix.RTM_DELROUTE), Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: lengthAt},
		{Code: jump | unix.BPF_JGT, K: uint32(longest(unix.AF_INET6)), Jt: 1}, // the longer one of both families
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},                      // the whole message
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: uint16(len(program)), Filter: &program[0],
	}); err != nil {
		return fmt.Errorf("filter the notifications about routes: %w", err)
	}
	return nil
}

// inNetworkOrder returns a field of a netlink message as a filter loads it: the message is in the byte order of the processor, and
// a filter reads it as network order.
func inNetworkOrder(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}
