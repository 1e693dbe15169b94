package cni

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
)

// The host's side of every link: the address that felix answers ARP for, and a link-local address that follows from the MAC address.
var (
	gateway4 = net.IPv4(169, 254, 1, 1)
	gateway6 = net.ParseIP("fe80::ecee:eeff:feee:eeee")
	hostMAC  = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
)

// plug makes the pair of interfaces of an attachment, and sets up the container's side with its addresses and routes. The endpoint exists
// already, so the host's side is closed until its policy is in force.
func (a attachment) plug(namespace string, networks []string, mtu int) error {
	inside, err := netns.GetFromPath(namespace)
	if err != nil {
		return fmt.Errorf("open the network namespace %s of the container: %w", namespace, err)
	}
	defer inside.Close()
	there, err := netlink.NewHandleAt(inside)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", namespace, err)
	}
	defer there.Close()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: a.device(), HardwareAddr: hostMAC, MTU: mtu},
		PeerName:  a.ifname, PeerHardwareAddr: a.mac(), PeerNamespace: netlink.NsFd(int(inside)),
	}
	if mtu != 0 {
		pair.PeerMTU = uint32(mtu)
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make the interfaces %s and %s: %w", a.device(), a, err)
	}
	if err := a.setUpHere(networks); err != nil {
		return errors.Join(err, a.unplug())
	}
	if err := a.setUpThere(there, networks); err != nil {
		return errors.Join(err, a.unplug())
	}
	return nil
}

func (a attachment) setUpHere(networks []string) error {
	link, err := netlink.LinkByName(a.device())
	if err != nil {
		return fmt.Errorf("find %s: %w", a.device(), err)
	}
	if _, v6, err := split(networks); err != nil || len(v6) > 0 {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: gateway6, Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		if err := errors.Join(err, netlink.AddrReplace(link, address)); err != nil {
			return fmt.Errorf("give %s the gateway's address: %w", a.device(), err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", a.device(), err)
	}
	return nil
}

func (a attachment) setUpThere(there *netlink.Handle, networks []string) error {
	link, err := there.LinkByName(a.ifname)
	if err != nil {
		return fmt.Errorf("find %v: %w", a, err)
	}
	v4, v6, err := split(networks)
	if err != nil {
		return err
	}
	for _, network := range append(v4, v6...) {
		address := &netlink.Addr{IPNet: network, Flags: unix.IFA_F_NODAD} // nobody else can have it on this link
		if err := there.AddrAdd(link, address); err != nil {
			return fmt.Errorf("give %v the address %v: %w", a, network, err)
		}
	}
	if err := there.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %v up: %w", a, err)
	}
	index := link.Attrs().Index
	var routes []netlink.Route
	if len(v4) > 0 {
		routes = append(routes,
			netlink.Route{LinkIndex: index, Dst: only(gateway4), Scope: netlink.SCOPE_LINK},
			netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: gateway4})
	}
	if len(v6) > 0 {
		routes = append(routes, netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: gateway6})
	}
	for _, route := range routes {
		if err := there.RouteAdd(&route); err != nil {
			return fmt.Errorf("give %v the route to %v: %w", a, route.Dst, err)
		}
	}
	return nil
}

func only(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }

// split reads addresses and sorts them by family.
func split(networks []string) (v4, v6 []*net.IPNet, err error) {
	for _, text := range networks {
		prefix, err := api.ParseNet(text)
		if err != nil {
			return nil, nil, err
		}
		n := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
		if prefix.Addr().Is4() {
			v4 = append(v4, n)
		} else {
			v6 = append(v6, n)
		}
	}
	return v4, v6, nil
}

// unplug removes both interfaces. It is no error if they are gone.
func (a attachment) unplug() error {
	link, err := netlink.LinkByName(a.device())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", a.device(), err)
	}
	return nil
}

// has says whether the container's interface exists with these addresses; nil: it does.
func (a attachment) has(namespace string, networks []string) error {
	inside, err := netns.GetFromPath(namespace)
	if err != nil {
		return fmt.Errorf("open the network namespace %s of the container: %w", namespace, err)
	}
	defer inside.Close()
	there, err := netlink.NewHandleAt(inside)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", namespace, err)
	}
	defer there.Close()
	link, err := there.LinkByName(a.ifname)
	if err != nil {
		return fmt.Errorf("%v: %w", a, err)
	}
	has, err := there.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of %v: %w", a, err)
	}
	found := map[string]bool{}
	for _, address := range has {
		found[address.IPNet.String()] = true
	}
	for _, text := range networks {
		if !found[text] {
			return fmt.Errorf("%v has not the address %s", a, text)
		}
	}
	return nil
}
