package etcdlab

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab"
)

// Port is a host with a cable to the switch.
type Port struct {
	*lab.Host
	Address string // IPv4
	name    string // of the switch's interface
}

// network is a switch with two halves. Everything is plugged into the first until it is split off.
type network struct {
	*lab.Host
	halves [2]netlink.Link
}

// Clients use one network, members use another among themselves.
const (
	subnet, peerSubnet = "10.77.0.", "10.78.0."
	cable, peerCable   = "eth0", "peer0" // the names of a port's ends of its cables
)

func newNetwork(t lab.T) *network {
	t.Helper()
	n := &network{Host: lab.NewHost(t)}
	for i := range n.halves {
		n.halves[i] = n.Bridge(fmt.Sprintf("half%d", i))
	}
	return n
}

// plug makes a port with the last number of its address.
func (n *network) plug(t lab.T, name string, number int) Port {
	t.Helper()
	p := Port{Host: lab.NewHost(t), Address: address(subnet, number), name: name}
	n.connect(p.Host, name, cable, p.Address)
	return p
}

func address(subnet string, number int) string { return fmt.Sprint(subnet, number) }

// connect lays a cable from the switch to a host, where it is called device.
func (n *network) connect(to *lab.Host, name, device, address string) {
	lab.Cable(n.Host, name, to, device)
	n.move(name, 0)
	n.Up(name)
	to.Up(device, address+"/24")
}

// move plugs a port into a half of the switch.
func (n *network) move(name string, half int) { n.Join(name, n.halves[half]) }

// Attach connects a host as one more client, by an interface that it makes there.
func (c *Cluster) Attach(to *lab.Host, device string) Port {
	p := Port{Host: to, Address: address(subnet, guestNumber), name: device}
	c.network.connect(to, p.name, device, p.Address)
	c.guests = append(c.guests, p)
	return p
}
