package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// Resumption holds the routes of a former process that are still in force, and the paths that may be announced because of them.
type Resumption struct {
	BGP     calc.BGP       // with the paths that have their route in the kernel
	Missing []netip.Prefix // paths of the former process whose route is gone, sorted
}

// Former holds the last BGP state of a former process, and the settings of its routes.
type Former struct {
	BGP             calc.BGP
	RouteProtocol   int            // of its routes; 0: the default
	FormerProtocols []int          // protocol numbers that its routes had before
	Pools           []netip.Prefix // all pools, sorted
}

// FormerRouteProtocols returns the protocol numbers that routes to workloads and blocks had before, in this process or a former one.
func (d *Driver) FormerRouteProtocols() []int { return d.kernel.Former() }

// Resume is for a start without a datastore. It takes the last BGP state of a former process, and returns the paths that can be announced
// again: those to which the kernel still has felix's route. If the policy of the former process is not in force, it returns an error
// and nothing may be announced: workloads could be reached that nobody protects, or packets would come here only to be dropped.
//
// From then on, routes of BGP peers come and go although the input is not complete. They do not replace routes of the former
// process.
func (d *Driver) Resume(former Former) (r Resumption, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kernel.Recall(routes.Protocol(former.RouteProtocol))
	held, err := d.kernel.List()
	if err != nil {
		return r, fmt.Errorf("read the routes of the former felix: %w", err)
	}
	if err := d.formerPolicy(held); err != nil {
		return r, err
	}
	r.BGP = former.BGP
	r.BGP.Paths = map[netip.Prefix]calc.Path{}
	for prefix, path := range former.BGP.Paths {
		if _, there := held[prefix]; there {
			r.BGP.Paths[prefix] = path
		} else {
			r.Missing = append(r.Missing, prefix)
		}
	}
	slices.SortFunc(r.Missing, netip.Prefix.Compare)
	if len(r.BGP.Paths) == 0 && len(former.BGP.Paths) > 0 {
		return r, errors.New("no route of the former felix is in the kernel")
	}
	d.resumed = &resumed{bgp: former.BGP, pools: former.Pools, routes: slices.Collect(maps.Keys(held))}
	d.protectAnew()
	return r, nil
}

// formerPolicy checks that a program of the former process judges the packets of every interface to which it made a route.
func (d *Driver) formerPolicy(held map[netip.Prefix]routes.Route) error {
	var open []string
	links := d.watcher.Links()
	for _, r := range held {
		if r.Kind == routes.Workload && !d.enforced[r.Interface] {
			open = append(open, links[r.Interface].Name)
		}
	}
	if len(open) == 0 {
		return nil
	}
	slices.Sort(open)
	return fmt.Errorf("the policy of the former felix is not in force on %s", strings.Join(slices.Compact(open), ", "))
}

// resumed holds the state that Resume has taken over. It protects the routes of the former process until the input is complete.
type resumed struct {
	bgp    calc.BGP
	pools  []netip.Prefix
	routes []netip.Prefix
}

// bgpInForce returns the BGP settings that learned routes follow.
func (d *Driver) bgpInForce() *calc.BGP {
	if d.resumed != nil {
		return &d.resumed.bgp
	}
	return &d.state.BGP
}
