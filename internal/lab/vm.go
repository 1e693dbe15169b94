package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VM is a virtual machine: a host behind one interface of another host, as a hypervisor connects it. Its own interface is
// eth0. Its gateways are 169.254.1.1, for which the host must answer by proxy ARP, and the link-local address of the host's
// side.
type VM struct {
	*Host
	Device    string // the interface on the host that it is behind
	Addresses []netip.Addr

	behind *Host
}

var gateway = net.IPv4(169, 254, 1, 1)

// Plug starts a VM behind an interface of the host, which it makes.
func (h *Host) Plug(dev string, addresses ...string) *VM {
	h.t.Helper()
	v := &VM{Host: NewHost(h.t), Device: dev, behind: h}
	for _, a := range addresses {
		v.Addresses = append(v.Addresses, netip.MustParseAddr(a))
	}
	v.Replug()
	return v
}

// Unplug removes the interface, as stopping the VM does.
func (v *VM) Unplug() {
	v.t.Helper()
	v.behind.Must(func() error {
		link, err := linkByName(v.Device)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
}

// Move puts the VM, which keeps its addresses and its connections, behind an interface of another host, which it makes.
func (v *VM) Move(to *Host, dev string) {
	v.t.Helper()
	v.Unplug()
	v.behind, v.Device = to, dev
	v.Replug()
}

// Replug makes the interface again, as starting the VM does.
func (v *VM) Replug() {
	v.t.Helper()
	Cable(v.behind, v.Device, v.Host, "eth0")
	v.behind.Must(func() error { return withoutDAD(v.Device) })
	v.behind.Up(v.Device)
	v.Must(func() error { return withoutDAD("eth0") })
	v.Up("eth0")
	for _, a := range v.Addresses {
		v.Up("eth0", netip.PrefixFrom(a, a.BitLen()).String())
	}
	for _, is4 := range []bool{true, false} {
		for _, a := range v.Addresses {
			if a.Is4() == is4 {
				v.routeAll(is4)
				break
			}
		}
	}
}

func (v *VM) routeAll(is4 bool) {
	v.t.Helper()
	by := gateway
	if !is4 {
		by = v.behind.linkLocal(v.Device)
	}
	v.Must(func() error { return addDefaultRoute("eth0", by) })
}

// withoutDAD makes the IPv6 addresses of an interface usable at once: nobody else has them.
func withoutDAD(dev string) error { return writeSysctl("ipv6/conf/"+dev+"/accept_dad", "0") }

// linkLocal waits for the link-local address of an interface.
func (h *Host) linkLocal(dev string) (address net.IP) {
	h.t.Helper()
	Await(h.t, func() error {
		return h.Do(func() error {
			link, err := linkByName(dev)
			if err != nil {
				return err
			}
			list, err := netlink.AddrList(link, netlink.FAMILY_V6)
			for _, a := range list {
				if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
					address = a.IP
				}
			}
			if err == nil && address == nil {
				err = fmt.Errorf("%s has no link-local address: %v", dev, list)
			}
			return err
		})
	})
	return address
}
