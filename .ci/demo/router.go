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
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab/router"
)

// birdConfig makes BIRD learn what the hosts announce, put it into the router's kernel, and pass it on to the other host. The hosts
// have one AS number and would refuse a route that has it in its path, so the router takes it out.
func birdConfig() string {
	text := `
router id 192.0.2.1;
protocol device {}
protocol kernel kernel4 { ipv4 { export where source = RTS_BGP; import none; }; }
protocol kernel kernel6 { ipv6 { export where source = RTS_BGP; import none; }; }
filter pass_on { if source != RTS_BGP then reject; bgp_path.delete(64512); accept; }
`
	for name, host := range map[string]string{"host1": hostIP, "host2": host2IP, "host1v6": hostIP6, "host2v6": host2IP6} {
		own, family := routerIP, "ipv4"
		if strings.Contains(host, ":") {
			own, family = routerIP6, "ipv6"
		}
		text += fmt.Sprintf(`
protocol bgp %s {
	local %s as 64600; neighbor %s as 64512;
	graceful restart on;
	%s { import all; export filter pass_on; next hop self; };
}
`, name, own, host, family)
	}
	return text
}

// startRouter starts the fabric's router: BIRD when it is installed, otherwise a second GoBGP speaker.
func (s *story) startRouter(ctx context.Context) {
	if _, err := router.FindBIRD(); err != nil {
		fmt.Println("\n# on the router:  a GoBGP speaker (BIRD is not installed)")
		s.startSpeaker(ctx)
		return
	}
	fmt.Println("\n# on the router:  bird")
	router.StartBIRD(s, s.router.Host, s.dir, birdConfig())
	s.passesOn = true
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
	var neighbours []router.Neighbour
	for _, host := range []string{hostIP, hostIP6, host2IP, host2IP6} {
		neighbours = append(neighbours, router.Neighbour{Address: netip.MustParseAddr(host), AS: 64512})
	}
	return router.Run(ctx, router.Config{
		AS: 64600, RouterID: netip.MustParseAddr(routerIP),
		Neighbours: neighbours,
	}, func(prefix netip.Prefix, from netip.Addr, withdrawn bool) {
		route := &netlink.Route{
			Dst: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
			Gw:  from.AsSlice(),
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
