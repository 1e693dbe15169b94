package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/types/known/anypb"
)

// claimed keeps a process to one GoBGP server: GoBGP v3 has package variables for its choice of routes, and a goroutine that
// never ends.
var claimed atomic.Bool

// gobgpServer is a server made of GoBGP. It opens no gRPC port.
type gobgpServer struct {
	journal *journal
	observe func(event)
	learned *learned
	bgp     *gobgp.BgpServer // nil until the first start
	global  global
	gate    gate
	zones   *zones
	devices devices

	protected map[netip.Addr]session // peers whose password the listener has

	attributes lastAttributes

	policies map[direction]installed
	serial   int // of the last policy
}

func newGoBGP(log *logrus.Entry, observe func(event), learned *learned) *gobgpServer {
	return &gobgpServer{
		journal: newJournal(log), observe: observe, learned: learned, protected: map[netip.Addr]session{}, zones: newZones(),
		policies: map[direction]installed{},
	}
}

func (g *gobgpServer) start(want global) error {
	if err := g.create(); err != nil {
		return err
	}
	err := g.bgp.StartBgp(context.Background(), &api.StartBgpRequest{Global: &api.Global{
		Asn:             want.AS,
		RouterId:        want.RouterID.String(),
		ListenPort:      int32(want.Port),
		ListenAddresses: listenAddresses(want),

		UseMultiplePaths: true,
	}})
	if err == nil {
		g.global = want
		return nil
	}
	// One of the two families may be listening already.
	_ = g.bgp.StopBgp(context.Background(), &api.StopBgpRequest{})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen for BGP on port %d: another process has it (BIRD, FRR or Calico's own agent?); "+
			"stop that one, set listenPort in BGPConfiguration, or set nodeToNodeMeshEnabled to false there if this node needs no BGP", want.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen for BGP on %v: bindMode is NodeIP, and no interface of this machine has the address of the Node; "+
			"correct spec.bgp of the Node, or remove bindMode", listenAddresses(want))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen for BGP on port %d: %w; the agent needs CAP_NET_BIND_SERVICE", want.Port, err)
	}
	return fmt.Errorf("start BGP: %w", err)
}

func (g *gobgpServer) create() error {
	if g.bgp != nil {
		return nil
	}
	if !claimed.CompareAndSwap(false, true) {
		return errors.New("start BGP: this process has a BGP speaker already; run the second one in a process of its own")
	}
	g.bgp = gobgp.NewBgpServer(gobgp.LoggerOption(g.journal))
	go g.bgp.Serve() // ends with the process
	filter := func(t api.WatchEventRequest_Table_Filter_Type) *api.WatchEventRequest_Table_Filter {
		return &api.WatchEventRequest_Table_Filter{Type: t}
	}
	return g.bgp.WatchEvent(context.Background(), &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			filter(api.WatchEventRequest_Table_Filter_BEST), filter(api.WatchEventRequest_Table_Filter_EOR),
		}},
	}, g.translate)
}

// translate turns an event of GoBGP into ours.
func (g *gobgpServer) translate(r *api.WatchEventResponse) {
	if t := r.GetTable(); t != nil {
		g.name(t.GetPaths())
		g.learned.put(g.waysOf(t.GetPaths()))
		g.learned.end(endsOf(t.GetPaths()))
	}
	if p := r.GetPeer(); p != nil {
		g.heard(p.GetPeer())
	}
}

// listenAddresses leaves out IPv6 where the kernel has none: GoBGP would refuse to start. The gate connects over the loopback, which
// nobody outside reaches.
func listenAddresses(g global) (list []string) {
	if g.Bound {
		list = append(list, "127.0.0.1")
		for _, a := range []netip.Addr{g.Listen4, g.Listen6} {
			if a.IsValid() {
				list = append(list, a.String())
			}
		}
		return list
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return []string{"0.0.0.0"}
	}
	return []string{"0.0.0.0", "::"}
}

// stop sends a Cease to all peers. It waits up to 5 s until they have it.
func (g *gobgpServer) stop() error {
	if g.bgp == nil {
		return nil
	}
	g.closeGate()
	clear(g.protected)
	g.zones.clear()
	g.devices.clear()
	done := make(chan error, 1)
	go func() { done <- g.bgp.StopBgp(context.Background(), &api.StopBgpRequest{}) }()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		return errors.New("BGP sessions did not end within 5 seconds; restart the agent")
	}
}

func (g *gobgpServer) addPath(prefix netip.Prefix, communities []string, mark uint32) error {
	attributes, err := g.attributes.of(prefix.Addr().Is4(), communities, mark)
	if err != nil {
		return err
	}
	path, err := apiPathWith(prefix, attributes)
	if err != nil {
		return err
	}
	_, err = g.bgp.AddPath(context.Background(), &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: path})
	return err
}

// deletePath passes the path itself: GoBGP would search the whole table for a UUID, and without a path it deletes all.
func (g *gobgpServer) deletePath(prefix netip.Prefix) error {
	path, err := apiPath(prefix, nil, 0)
	if err != nil {
		return err
	}
	return g.bgp.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: path})
}

// addPeer begins a session. It forgets the last error of a former session with the same address.
func (g *gobgpServer) addPeer(s session, restarting bool) error {
	g.journal.forget(s.Address)
	g.devices.set(s.Address, s.Interface)
	peer := apiPeer(s, restarting)
	if s.Password != "" {
		return g.addProtected(s, peer)
	}
	g.zones.add(s.Address)
	err := g.bgp.AddPeer(context.Background(), &api.AddPeerRequest{Peer: peer})
	if err != nil {
		g.zones.remove(s.Address)
	}
	return err
}

func (g *gobgpServer) reset(a netip.Addr, why string) error {
	return g.bgp.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: a.String(), Communication: why})
}

func (g *gobgpServer) deletePeer(a netip.Addr) error {
	if err := g.unprotect(a); err != nil {
		return err
	}
	if err := g.bgp.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: a.String()}); err != nil {
		return err
	}
	g.zones.remove(a)
	g.devices.set(a, "")
	return nil
}

// peers returns the state of each session. It does not ask for advertised routes: that runs every policy on every path, on GoBGP's
// only goroutine.
func (g *gobgpServer) peers() map[netip.Addr]peerState {
	states := map[netip.Addr]peerState{}
	_ = g.bgp.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		if a, err := netip.ParseAddr(p.GetConf().GetNeighborAddress()); err == nil {
			states[a] = peerStateOf(p)
		}
	})
	return states
}

// received returns the routes of a peer as it has sent them.
func (g *gobgpServer) received(a netip.Addr) (list []Received, err error) {
	for _, family := range apiFamilies(a) {
		err := g.bgp.ListPath(context.Background(), &api.ListPathRequest{
			TableType: api.TableType_ADJ_IN, Name: a.String(), Family: family,
		}, func(d *api.Destination) {
			for _, path := range d.GetPaths() {
				path.NeighborIp = a.String() // with the zone
				if r, ok := receivedOf(path); ok {
					if hop, is := g.devices.nextHop(a); is {
						r.NextHop, r.workload = hop, true
					}
					list = append(list, r)
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (g *gobgpServer) nextHops(a netip.Addr) ([]netip.Addr, error) {
	found := map[netip.Addr]struct{}{}
	for _, family := range apiFamilies(a) {
		err := g.bgp.ListPath(context.Background(), &api.ListPathRequest{
			TableType: api.TableType_ADJ_IN, Name: a.String(), Family: family,
		}, func(d *api.Destination) {
			for _, path := range d.GetPaths() {
				if next, ok := nextHopOf(path); ok {
					found[next] = struct{}{}
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(found), netip.Addr.Compare), nil
}

// accepted returns the routes of peers that the import policy has accepted.
func (g *gobgpServer) accepted() (map[candidate]bool, error) {
	all := map[candidate]bool{}
	for _, family := range []*api.Family{apiFamily(netip.IPv4Unspecified()), apiFamily(netip.IPv6Unspecified())} {
		err := g.bgp.ListPath(context.Background(), &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: family}, func(d *api.Destination) {
			g.name(d.GetPaths())
			for _, path := range d.GetPaths() {
				prefix, ok := prefixOf(path)
				if neighbour, learned := neighbourOf(path); ok && learned {
					all[candidate{prefix, neighbour}] = true
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lastAttributes keeps the attributes of the last path: most paths have the same. GoBGP only reads them.
type lastAttributes struct {
	mu   sync.Mutex
	key  string
	list []*anypb.Any
}

func (l *lastAttributes) of(v4 bool, communities []string, mark uint32) ([]*anypb.Any, error) {
	key := fmt.Sprint(v4, mark, communities)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list != nil && l.key == key {
		return l.list, nil
	}
	list, err := apiAttributes(v4, communities, mark)
	if err == nil {
		l.key, l.list = key, list
	}
	return list, err
}

func (g *gobgpServer) lastError(a netip.Addr) failure {
	return g.journal.lastError(a)
}
