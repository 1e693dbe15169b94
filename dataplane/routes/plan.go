package routes

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// Kind says what a route is for.
type Kind uint8

const (
	Foreign   Kind = iota // has our protocol number, but is not as this package makes routes: it is replaced or removed
	Workload              // leads to a workload's address, by its interface
	BlackHole             // covers a block of this node: packets to its free addresses are dropped
	Gateway               // leads to the address that stands for the host on every workload's interface
)

func (k Kind) String() string {
	return [...]string{"foreign", "workload", "blackhole", "gateway"}[k]
}

// Route says how to route a prefix.
type Route struct {
	Kind      Kind
	Interface int // index; 0 for black holes
	Protocol  int
	Metric    int // of a Workload; the others have their own
}

// Port is a workload's interface that is a port of a bridge or bond.
type Port struct {
	Master string
	Judged bool // policy is in force at the port, and the bridge leads to the workload
}

// GatewayAddress stands for the host on every workload's interface.
var GatewayAddress = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Protocol returns the protocol number of our routes. The default, 86, is used by no other known program; 80 is Calico's, whose
// leftovers are not ours to remove. Numbers up to 4 mark routes of the kernel, of boot scripts and of administrators, so a
// configured number up to 4 is ignored.
func Protocol(configured int) int {
	if configured <= 4 || configured > 255 {
		return 86
	}
	return configured
}

// Plan returns the routes to local workloads and blocks that can be programmed now, and why others must wait. workloads has the
// interfaces of workloads by name. ports has those that are ports of a bridge or bond, which gets their packets: a route by the port would lead
// nowhere. A judged port needs none. loopback is the index of lo if the gateway is to have its route, otherwise 0. metric gives a route's; 0: the kernel's default.
func Plan(wanted map[netip.Prefix]calc.Route, workloads map[string]interfaces.Link, ports map[string]Port, loopback, protocol int,
	metric func(netip.Prefix) int) (map[netip.Prefix]Route, map[netip.Prefix]string) {
	plan, waiting := map[netip.Prefix]Route{}, map[netip.Prefix]string{}
	for prefix, route := range wanted {
		if !route.Kind.IsLocal() {
			continue
		}
		prefix = prefix.Masked()
		if route.Kind == calc.BlockHole {
			plan[prefix] = Route{Kind: BlackHole, Protocol: protocol}
			continue
		}
		link, there := workloads[route.Interface]
		switch port := ports[route.Interface]; {
		case port.Judged:
		case port.Master != "":
			waiting[prefix] = fmt.Sprintf("interface %s is a port of %s", route.Interface, port.Master)
		case !there:
			waiting[prefix] = fmt.Sprintf("interface %s does not exist", route.Interface)
		case !link.Up:
			waiting[prefix] = fmt.Sprintf("interface %s is down", route.Interface)
		default:
			plan[prefix] = Route{Kind: Workload, Interface: link.Index, Protocol: protocol, Metric: cmp.Or(metric(prefix), defaultMetric(prefix))}
		}
	}
	if loopback != 0 {
		plan[netip.PrefixFrom(GatewayAddress, 32)] = Route{Kind: Gateway, Interface: loopback, Protocol: protocol}
	}
	return plan, waiting
}
