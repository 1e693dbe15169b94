package router

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
)

// Config is the router's own AS and the neighbours that it lets in.
type Config struct {
	AS         uint32
	RouterID   netip.Addr
	Port       uint16 // 0: 179
	Neighbours []Neighbour
}

// Neighbour may connect. Its routes are learned for the family of its address.
type Neighbour struct {
	Address netip.Addr
	AS      uint32
}

// Run runs the router until ctx ends and then takes leave of its neighbours. It calls onRoute for each prefix
// that is learned, changed or withdrawn, with the neighbour that it is from, one call at a time.
func Run(ctx context.Context, cfg Config, onRoute func(prefix netip.Prefix, from netip.Addr, withdrawn bool)) error {
	s := gobgp.NewBgpServer(gobgp.LoggerOption(silent{}))
	go s.Serve() // ends with the process
	err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn:        cfg.AS,
		RouterId:   cfg.RouterID.String(),
		ListenPort: int32(cfg.Port),
	}})
	if err != nil {
		return fmt.Errorf("start router: %w", err)
	}
	defer s.StopBgp(context.WithoutCancel(ctx), &api.StopBgpRequest{})
	err = s.WatchEvent(ctx, &api.WatchEventRequest{Table: &api.WatchEventRequest_Table{
		Filters: []*api.WatchEventRequest_Table_Filter{{Type: api.WatchEventRequest_Table_Filter_BEST}},
	}}, func(r *api.WatchEventResponse) {
		for _, path := range r.GetTable().GetPaths() {
			if prefix, ok := prefixOf(path); ok {
				from, _ := netip.ParseAddr(path.GetNeighborIp())
				onRoute(prefix, from, path.GetIsWithdraw())
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	for _, n := range cfg.Neighbours {
		if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: peer(n)}); err != nil {
			return fmt.Errorf("add neighbour %v: %w", n.Address, err)
		}
	}
	<-ctx.Done()
	return nil
}

func peer(n Neighbour) *api.Peer {
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if n.Address.Is6() {
		family.Afi = api.Family_AFI_IP6
	}
	return &api.Peer{
		Conf:            &api.PeerConf{NeighborAddress: n.Address.String(), PeerAsn: n.AS},
		Transport:       &api.Transport{PassiveMode: true},
		EbgpMultihop:    &api.EbgpMultihop{Enabled: true, MultihopTtl: 255},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 120, DeferralTime: 5},
		AfiSafis: []*api.AfiSafi{{
			Config:            &api.AfiSafiConfig{Family: family, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		}},
	}
}

func prefixOf(path *api.Path) (netip.Prefix, bool) {
	var nlri api.IPAddressPrefix
	if path.GetNlri() == nil || path.GetNlri().UnmarshalTo(&nlri) != nil {
		return netip.Prefix{}, false
	}
	addr, err := netip.ParseAddr(nlri.GetPrefix())
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, int(nlri.GetPrefixLen())), true
}

// silent drops what GoBGP has to say; what it panics about is its own bug.
type silent struct{}

func (silent) Panic(msg string, fields gobgplog.Fields) {
	panic(fmt.Sprintf("gobgp: %s %v", msg, fields))
}
func (s silent) Fatal(msg string, f gobgplog.Fields) { s.Panic(msg, f) }
func (silent) Error(string, gobgplog.Fields)         {}
func (silent) Warn(string, gobgplog.Fields)          {}
func (silent) Info(string, gobgplog.Fields)          {}
func (silent) Debug(string, gobgplog.Fields)         {}
func (silent) SetLevel(gobgplog.LogLevel)            {}
func (silent) GetLevel() gobgplog.LogLevel           { return gobgplog.ErrorLevel }
