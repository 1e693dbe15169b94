package routes

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// Kind says what a route is for.
type Kind uint8

const (
	Foreign   Kind = iota // ours by its number, but none that we would make: it is put right or swept
	Workload              // a workload's address, by its interface
	BlackHole             // an own block: what no workload holds goes nowhere
	Gateway               // the address that stands for the host on every workload's interface
)

func (k Kind) String() string {
	return [...]string{"foreign", "workload", "blackhole", "gateway"}[k]
}

// Route is how a prefix is to be routed.
type Route struct {
	Kind      Kind
	Interface int // index; 0 for black holes
	Protocol  int
}

// GatewayAddress stands for the host on every workload's interface.
var GatewayAddress = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Protocol is the number that marks our routes: 86 unless configured, which no other program is known to use (80 is that of
// Calico, whose leftovers are not ours to sweep). The numbers up to 4 mark those of the kernel, of boot scripts and of
// administrators, which must not be swept; when the configuration names one of them ours stays.
func Protocol(configured int) int {
	if configured <= 4 || configured > 255 {
		return 86
	}
	return configured
}

// Plan says which routes can be there now, and why others cannot. workloads are the interfaces of workloads by name.
// bridged are those that are ports of a bridge, which gets their packets: a route by the port would make them
// unreachable. loopback is its index when the gateway may have its route, else 0.
func Plan(wanted map[netip.Prefix]calc.Route, workloads map[string]interfaces.Link, bridged map[string]string, loopback, protocol int) (map[netip.Prefix]Route, map[netip.Prefix]string) {
	plan, waiting := map[netip.Prefix]Route{}, map[netip.Prefix]string{}
	for prefix, route := range wanted {
		prefix = prefix.Masked()
		if route.Kind == calc.BlockHole {
			plan[prefix] = Route{Kind: BlackHole, Protocol: protocol}
			continue
		}
		link, there := workloads[route.Interface]
		switch bridge := bridged[route.Interface]; {
		case bridge != "":
			waiting[prefix] = fmt.Sprintf("interface %s is a port of %s", route.Interface, bridge)
		case !there:
			waiting[prefix] = fmt.Sprintf("interface %s is not there", route.Interface)
		case !link.Up:
			waiting[prefix] = fmt.Sprintf("interface %s is down", route.Interface)
		default:
			plan[prefix] = Route{Kind: Workload, Interface: link.Index, Protocol: protocol}
		}
	}
	if loopback != 0 {
		plan[netip.PrefixFrom(GatewayAddress, 32)] = Route{Kind: Gateway, Interface: loopback, Protocol: protocol}
	}
	return plan, waiting
}
