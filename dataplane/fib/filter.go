package fib

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// OnlyDefaults has the kernel deliver to a netlink socket, of all notifications about routes, only those about default
// routes; notifications about other things pass. A router that receives a full table makes hundreds of thousands of
// notifications in a second, which would push those that matter out of the socket's buffer.
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
		{Code: jump | unix.BPF_JGT, K: uint32(longest(unix.AF_INET6)), Jt: 1}, // of both families the longer
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},                      // the whole message
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: uint16(len(program)), Filter: &program[0],
	}); err != nil {
		return fmt.Errorf("have the kernel leave out notifications about routes: %w", err)
	}
	return nil
}

// inNetworkOrder is a field of a netlink message as a filter loads it: the message is in the order of the processor, and a
// filter takes everything for network order.
func inNetworkOrder(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}
