package gate

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/notify"
)

// Changed tells of a transaction of another process. The zero value says that notifications were lost: anything may have
// changed.
type Changed struct {
	By     string // name and number of the process
	Ours   bool   // our table was changed
	Others bool   // tables, chains or rules of others were changed
}

// Listen calls changed, from another goroutine, for each nftables transaction of another process.
func Listen(changed func(Changed)) (*notify.Listener, error) {
	var open Changed // the transaction whose end has not come yet
	return notify.Listen(unix.NETLINK_NETFILTER, []uint{unix.NFNLGRP_NFTABLES}, nil, notify.Handler{
		Heard: func(messages []syscall.NetlinkMessage) {
			for _, m := range messages {
				if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nl.SizeofNfgenmsg {
					continue
				}
				attributes, err := nl.ParseRouteAttr(m.Data[nl.SizeofNfgenmsg:])
				if err != nil {
					continue
				}
				if kind := m.Header.Type & 0xff; kind != unix.NFT_MSG_NEWGEN {
					open.note(kind, m.Data[0], attributes)
					continue
				}
				own := open.end(attributes)
				if !own && (open.Ours || open.Others) {
					changed(open)
				}
				open = Changed{}
			}
		},
		Lost: func() { open = Changed{}; changed(Changed{}) },
	})
}

// note reads one message of a transaction. The first attribute of each message names the table.
func (c *Changed) note(kind uint16, family byte, attributes []syscall.NetlinkRouteAttr) {
	for _, a := range attributes {
		if a.Attr.Type != unix.NFTA_TABLE_NAME {
			continue
		}
		switch name := strings.TrimRight(string(a.Value), "\x00"); {
		case name == TableName && (family == unix.NFPROTO_INET || family == unix.NFPROTO_BRIDGE):
			c.Ours = true
		case kind != unix.NFT_MSG_NEWSETELEM && kind != unix.NFT_MSG_DELSETELEM:
			c.Others = true
		}
	}
}

// end reads the last message of a transaction, which names the process. It says whether that is this process.
func (c *Changed) end(attributes []syscall.NetlinkRouteAttr) (own bool) {
	var pid uint32
	var name string
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.NFTA_GEN_PROC_PID && len(a.Value) == 4:
			pid = binary.BigEndian.Uint32(a.Value)
		case a.Attr.Type == unix.NFTA_GEN_PROC_NAME:
			name = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	c.By = fmt.Sprintf("%s (process %d)", name, pid)
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", pid)) // it is the number of a thread
	return err == nil
}
