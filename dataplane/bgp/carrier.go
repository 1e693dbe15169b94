package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// carriers knows which interfaces have a carrier, and their networks. It is for peers on the same network: without it, their
// sessions would last until the hold time is over, and packets would go to a dead next hop for that long.
type carriers struct {
	up       map[int]bool   // by index
	indexes  map[string]int // by name
	networks map[int]map[netip.Prefix]time.Time
}

// An address that was removed still counts for this long: when an interface is taken down, IPv6 addresses go before its carrier.
const addressLingers = 2 * time.Second

// Watch looks after carriers, limits and the ways to next hops until ctx ends. It belongs to the network namespace of the thread that calls it.
func (s *Speaker) Watch(ctx context.Context) {
	go s.watchLimits(ctx)
	go s.watchWays(ctx)
	s.watchCarriers(ctx)
}

// watchCarriers ends the session with a peer at once when the interface to it has lost its carrier, until ctx ends. It belongs to
// the network namespace of the thread that calls it.
func (s *Speaker) watchCarriers(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.followCarriers(ctx); err != nil {
			s.log.WithError(err).Warn("the agent cannot hear of lost carriers for a second: BGP sessions over them then end with their hold time")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *Speaker) followCarriers(ctx context.Context) error {
	links, addresses := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	failed, done := make(chan error, 2), make(chan struct{})
	defer close(done)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	err := netlink.AddrSubscribeWithOptions(addresses, done, netlink.AddrSubscribeOptions{ListExisting: true, ErrorCallback: fail})
	if err == nil {
		err = netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ListExisting: true, ErrorCallback: fail})
	}
	if err != nil {
		return fmt.Errorf("follow the changes of interfaces: %w", err)
	}
	c := carriers{up: map[int]bool{}, indexes: map[string]int{}, networks: map[int]map[netip.Prefix]time.Time{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case u, open := <-addresses:
			if !open {
				return fmt.Errorf("the kernel has closed the connection")
			}
			c.address(u, time.Now())
			s.interfacesChanged()
		case u, open := <-links:
			if !open {
				return fmt.Errorf("the kernel has closed the connection")
			}
			if c.isNew(u) && s.hasPeerOn(u.Attrs().Name) {
				renewZones()
			}
			s.interfacesChanged()
			if c.link(u) {
				s.carrierLost(u.Attrs().Name, c.networksOf(u.Attrs().Index, time.Now()))
			}
		}
	}
}

func (c *carriers) address(u netlink.AddrUpdate, now time.Time) {
	a, ok := netip.AddrFromSlice(u.LinkAddress.IP)
	ones, _ := u.LinkAddress.Mask.Size()
	network, err := a.Unmap().Prefix(ones)
	if !ok || err != nil || network.IsSingleIP() {
		return
	}
	if c.networks[u.LinkIndex] == nil {
		c.networks[u.LinkIndex] = map[netip.Prefix]time.Time{}
	}
	if u.NewAddr {
		c.networks[u.LinkIndex][network] = time.Time{}
	} else {
		c.networks[u.LinkIndex][network] = now
	}
}

// link notes the carrier of an interface. It says whether the interface has lost it.
func (c *carriers) link(u netlink.LinkUpdate) (lost bool) {
	index := u.Attrs().Index
	up := u.Header.Type != unix.RTM_DELLINK && u.IfInfomsg.Flags&unix.IFF_RUNNING != 0
	lost = c.up[index] && !up
	c.up[index] = up
	return lost
}

// isNew says whether an interface has another index than the one of that name before.
func (c *carriers) isNew(u netlink.LinkUpdate) bool {
	if u.Header.Type == unix.RTM_DELLINK || c.indexes[u.Attrs().Name] == u.Attrs().Index {
		return false
	}
	c.indexes[u.Attrs().Name] = u.Attrs().Index
	return true
}

// networksOf returns the networks of an interface.
func (c *carriers) networksOf(index int, now time.Time) (list []netip.Prefix) {
	for network, removed := range c.networks[index] {
		if removed.IsZero() || now.Sub(removed) < addressLingers {
			list = append(list, network)
		} else {
			delete(c.networks[index], network)
		}
	}
	return list
}

// carrierLost ends the sessions with peers on the networks of an interface, or whose gateway is there. A peer that packets reach over
// another interface, on the same network, keeps its session.
func (s *Speaker) carrierLost(device string, networks []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.peers {
		address, next := p.session.Address, p.session.Address
		if p.calc.Gateway.IsValid() {
			next = p.calc.Gateway
		}
		if !s.links[address].up || !lost(p.session, next, device, networks) {
			continue
		}
		if err := s.srv.reset(address, "interface "+device+" has lost its carrier"); err != nil {
			s.log.WithError(err).WithField("peer", Called(name, p.calc)).Warn("the BGP session over an interface without a carrier goes on until its hold time is over")
		}
	}
}

// lost says whether a peer is reached by an interface only. A workload is, by its own.
func lost(s session, next netip.Addr, device string, networks []netip.Prefix) bool {
	if s.Interface != "" {
		return s.Interface == device
	}
	return isOn(next, device, networks) && !reachedElsewhere(next, device)
}

func isOn(a netip.Addr, device string, networks []netip.Prefix) bool {
	if a.Zone() != "" {
		return a.Zone() == device
	}
	for _, network := range networks {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// reachedElsewhere says whether packets to a peer leave directly by another interface that works.
func reachedElsewhere(a netip.Addr, device string) bool {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].Gw != nil || a.Zone() != "" {
		return false
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	return err == nil && link.Attrs().Name != device && link.Attrs().RawFlags&unix.IFF_RUNNING != 0
}
