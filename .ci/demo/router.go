package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab/router"
)

// birdConfig makes BIRD learn what host1 announces and put it into the router's kernel.
const birdConfig = `
router id 192.0.2.1;
protocol device {}
protocol kernel kernel4 { ipv4 { export where source = RTS_BGP; import none; }; }
protocol kernel kernel6 { ipv6 { export where source = RTS_BGP; import none; }; }
protocol bgp host1 {
	local 192.0.2.1 as 64600;
	neighbor 192.0.2.10 as 64512;
	graceful restart on;
	ipv4 { import all; export none; };
}
protocol bgp host1v6 {
	local 2001:db8:2::1 as 64600;
	neighbor 2001:db8:2::10 as 64512;
	graceful restart on;
	ipv6 { import all; export none; };
}
`

// startRouter starts the fabric's router: BIRD when it is installed, otherwise a second GoBGP speaker.
func (s *story) startRouter(ctx context.Context) {
	if _, err := router.FindBIRD(); err != nil {
		fmt.Println("\n# on the router:  a GoBGP speaker (BIRD is not installed)")
		s.startSpeaker(ctx)
		return
	}
	fmt.Println("\n# on the router:  bird")
	router.StartBIRD(s, s.router.Host, s.dir, birdConfig)
}

// speaker is the argument with which the demo runs itself as the router's BGP speaker: GoBGP opens its sockets on any
// thread, so it needs a process of its own in the router's namespace.
const speaker = "speaker"

func (s *story) startSpeaker(ctx context.Context) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", speaker)
	cmd.Stdout = s.logFile(filepath.Join(s.dir, "speaker.log"))
	cmd.Stderr = cmd.Stdout
	s.router.Start(cmd)
}

// runSpeaker learns routes and puts them into the kernel, as BIRD would.
func runSpeaker() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return router.Run(ctx, router.Config{
		AS: 64600, RouterID: netip.MustParseAddr(routerIP),
		Neighbours: []router.Neighbour{
			{Address: netip.MustParseAddr(hostIP), AS: 64512},
			{Address: netip.MustParseAddr(hostIP6), AS: 64512},
		},
	}, func(prefix netip.Prefix, withdrawn bool) {
		gateway := hostIP
		if prefix.Addr().Is6() {
			gateway = hostIP6
		}
		route := &netlink.Route{
			Dst: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
			Gw:  net.ParseIP(gateway),
		}
		act := netlink.RouteReplace
		if withdrawn {
			act = netlink.RouteDel
		}
		if err := act(route); err != nil {
			fmt.Fprintln(os.Stderr, "route", prefix, err)
		}
	})
}

// routed says whether the router's kernel has the route.
func (s *story) routed(prefix netip.Prefix) bool {
	found, err := s.router.hasRoute(prefix)
	return err == nil && found
}
