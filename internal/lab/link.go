package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link returns an interface of the host.
func (h *Host) Link(dev string) netlink.Link {
	h.t.Helper()
	var link netlink.Link
	h.Must(func() (err error) { link, err = linkByName(dev); return err })
	return link
}

func linkByName(dev string) (netlink.Link, error) {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", dev, err)
	}
	return link, nil
}

// Up gives an interface addresses, each with its prefix length, and sets it up. The addresses are usable at once.
func (h *Host) Up(dev string, prefixes ...string) netlink.Link {
	h.t.Helper()
	var link netlink.Link
	h.Must(func() (err error) {
		link, err = linkByName(dev)
		if err != nil {
			return err
		}
		for _, prefix := range prefixes {
			if err := changeAddress(link, prefix, netlink.AddrAdd); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
	return link
}

// Down sets an interface down.
func (h *Host) Down(dev string) {
	h.t.Helper()
	h.Must(func() error {
		link, err := linkByName(dev)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
}

// RemoveAddress takes an address from an interface.
func (h *Host) RemoveAddress(dev, prefix string) {
	h.t.Helper()
	h.Must(func() error {
		link, err := linkByName(dev)
		if err != nil {
			return err
		}
		return changeAddress(link, prefix, netlink.AddrDel)
	})
}

func changeAddress(link netlink.Link, prefix string, change func(netlink.Link, *netlink.Addr) error) error {
	address, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if address.IP.To4() == nil {
		address.Flags = unix.IFA_F_NODAD // nobody else has it
	}
	if err := change(link, address); err != nil {
		return fmt.Errorf("address %s of %s: %w", prefix, link.Attrs().Name, err)
	}
	return nil
}

// DefaultRoute sends everything of the gateway's family to the gateway, which need not be on a connected network.
func (h *Host) DefaultRoute(dev, gateway string) {
	h.t.Helper()
	h.Must(func() error { return addDefaultRoute(dev, net.ParseIP(gateway)) })
}

func addDefaultRoute(dev string, gateway net.IP) error {
	link, err := linkByName(dev)
	if err != nil {
		return err
	}
	everything := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if gateway.To4() == nil {
		everything = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Dst: everything, Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("default route by %v: %w", gateway, err)
	}
	return nil
}

// Route sends a prefix out by an interface, without a gateway.
func (h *Host) Route(prefix, dev string) {
	h.t.Helper()
	h.Must(func() error {
		link, err := linkByName(dev)
		if err != nil {
			return err
		}
		dst, err := netlink.ParseIPNet(prefix)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("route to %s by %s: %w", prefix, dev, err)
		}
		return nil
	})
}

// RouteVia sends a prefix to a gateway on a connected network.
func (h *Host) RouteVia(prefix, gateway string) {
	h.t.Helper()
	h.Must(func() error {
		dst, err := netlink.ParseIPNet(prefix)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}); err != nil {
			return fmt.Errorf("route to %s by %s: %w", prefix, gateway, err)
		}
		return nil
	})
}

// Cable connects two hosts by a veth pair. Both ends are down.
func Cable(a *Host, devA string, b *Host, devB string) {
	a.t.Helper()
	a.Must(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: devB, PeerNamespace: netlink.NsFd(b.ns)}
		link.Name = devA
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("cable from %s to %s: %w", devA, devB, err)
		}
		return nil
	})
}

// Veth makes a pair of interfaces whose ends are both on the host, and returns the end called dev. The other is called as
// peer. Both are down.
func (h *Host) Veth(dev, peer string) netlink.Link {
	h.t.Helper()
	Cable(h, dev, h, peer)
	return h.Link(dev)
}

// Bridge makes a bridge that is up and forwards at once.
func (h *Host) Bridge(dev string, prefixes ...string) netlink.Link {
	h.t.Helper()
	h.Must(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = dev
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	})
	return h.Up(dev, prefixes...)
}

// Join makes an interface a port of a bridge.
func (h *Host) Join(dev string, bridge netlink.Link) {
	h.t.Helper()
	h.Must(func() error {
		link, err := linkByName(dev)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(link, bridge)
	})
}
