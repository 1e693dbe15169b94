package bgp_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// frrConfig configures a router with a session for each family. The router announces one network of each.
func frrConfig(as uint32, options ...string) string {
	neighbour := func(address string) string {
		text := fmt.Sprintf(" neighbor %s remote-as %d\n neighbor %[1]s timers connect 1\n", address, hostAS)
		for _, o := range options {
			text += fmt.Sprintf(" neighbor %s %s\n", address, o)
		}
		return text
	}
	return fmt.Sprintf(`
router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
%s%s address-family ipv4 unicast
  network 203.0.113.0/24
  neighbor %s activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:ff::/64
  neighbor %s activate
 exit-address-family
`, as, router4, neighbour(host4), neighbour(host6), host4, host6)
}

func TestFRRFollowsAnnouncedPaths(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]uint32{"eBGP": routerAS, "iBGP": hostAS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			f := router.StartFRR(t, l.router, frrConfig(as))
			s := run(t, l.host, "speaker")
			s.apply(t, node(as))
			attributes := []string{"Community: 64512:100", "Large Community: 64512:7:4294967295"}
			if as == hostAS {
				attributes = append(attributes, "localpref 2147482623", "Local")
			} else {
				attributes = append(attributes, "\n  64512\n")
			}
			f.AwaitRoute(block4, append(attributes, host4+" from "+host4)...)
			f.AwaitRoute(block6, host6+" from "+host6)
			learned := routes{}
			s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fd99::2", "203.0.113.0/24 [10.99.0.2")

			s.apply(t, without(node(as), block4))
			f.AwaitNoRoute(block4)
			f.AwaitRoute(block6)
			changed := without(node(as))
			changed.Paths[prefix(block4)] = calc.Path{Communities: []string{"64512:200"}}
			s.apply(t, changed)
			f.AwaitRoute(block4, "Community: 64512:200")

			f.Configure(fmt.Sprintf("router bgp %d", as), "address-family ipv4 unicast", "no network 203.0.113.0/24")
			s.awaitLearned(t, learned, true, "2001:db8:ff::/64 [fd99::2")
		})
	}
}

func TestRestartedSpeakerChangesNoRouteOfFRR(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	f := router.StartFRR(t, l.router, frrConfig(routerAS))
	changes := &routeChanges{soFar: l.router.FollowRoutes(unix.RTPROT_BGP)}
	s := changes.announced(t, l, f)
	for range 2 {
		s = restart(t, l, s, time.Second)
		s.waitUp(t)
	}
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}
}

// The speaker helps a router that restarts: its routes stay while it is away.
func TestRoutesOfARestartingFRRStay(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	f := router.StartFRR(t, l.router, frrConfig(routerAS))
	s := run(t, l.host, "speaker")
	s.apply(t, node(routerAS))
	learned, want := routes{}, []string{"2001:db8:ff::/64 [fd99::2", "203.0.113.0/24 [10.99.0.2"}
	s.awaitLearned(t, learned, true, want...)
	f.Kill()
	lab.LetPass(time.Second) // the speaker must keep the routes meanwhile
	f.StartBGP()
	f.AwaitRoute(block4)
	f.AwaitRoute(block6)
	s.waitUp(t)
	if a := s.ask(t, request{Learned: true}); len(a.Learned) > 0 {
		t.Errorf("the restart of the router changes learned routes: %v", a.Learned)
	}
}

func TestTTLSecurityWorksWithFRR(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	f := router.StartFRR(t, l.router, frrConfig(routerAS, "ttl-security hops 1"))
	s := run(t, l.host, "speaker")
	n := node(routerAS)
	for name, p := range n.Peers {
		p.TTLSecurity = 1
		n.Peers[name] = p
	}
	s.apply(t, n)
	f.AwaitRoute(block4)
	f.AwaitRoute(block6)
}

// FRR and the speaker have the same password, FRR has another one, and both have the same again.
func TestPasswordsWorkWithFRR(t *testing.T) {
	t.Parallel()
	for name, passive := range map[string]bool{"the agent connects": false, "the router connects": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			file := filepath.Join(t.TempDir(), "password")
			writePassword(t, file, "s3cret")
			options := []string{"password s3cret"}
			if !passive {
				options = append(options, "passive")
			}
			f := router.StartFRR(t, l.router, frrConfig(routerAS, options...))
			s := run(t, l.host, "speaker")
			s.apply(t, secretNode(file, passive))
			s.waitUp(t)
			f.AwaitRoute(block4)
			f.AwaitRoute(block6)

			for _, neighbour := range []string{host4, host6} {
				f.Configure(fmt.Sprintf("router bgp %d", routerAS), "neighbor "+neighbour+" password other")
			}
			lab.Await(t, func() error {
				for _, st := range s.status(t) {
					if st.State == "Established" {
						return fmt.Errorf("%+v", st)
					}
				}
				if _, _, wrong := l.dropped(); wrong < 4 {
					return fmt.Errorf("only %d segments were dropped", wrong)
				}
				return nil
			})
			for _, neighbour := range []string{host4, host6} {
				f.Configure(fmt.Sprintf("router bgp %d", routerAS), "neighbor "+neighbour+" password s3cret")
			}
			s.waitUp(t)
		})
	}
}

// The speaker is a client of a route reflector. It learns the next hops of the other client, which lie behind the reflector, and the
// other client learns those of the node.
func TestSpeakerIsAClientOfFRRAsReflector(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	const other, reflector = "10.98.0.1", "10.98.0.2"
	client := lab.NewHost(t)
	lab.Cable(client, cable, l.router, "other")
	client.Up(cable, other+"/24")
	l.router.Up("other", reflector+"/24")
	f := router.StartFRR(t, l.router, fmt.Sprintf(`
router bgp %[1]d
 bgp router-id %[2]s
 bgp cluster-id 10.98.0.99
 neighbor %[3]s remote-as %[1]d
 neighbor %[3]s timers connect 1
 neighbor %[4]s remote-as %[1]d
 neighbor %[4]s timers connect 1
 address-family ipv4 unicast
  neighbor %[3]s route-reflector-client
  neighbor %[4]s route-reflector-client
 exit-address-family
`, hostAS, router4, host4, other))
	b := router.StartBIRD(t, client, t.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol static { route %[4]s via %[2]s; ipv4; }
protocol static offered { ipv4; route 203.0.113.0/24 blackhole; }
protocol bgp session { local %[1]s as %[3]d; neighbor %[2]s as %[3]d; ipv4 { import all; export where proto = "offered"; }; }
`, other, reflector, hostAS, host4+"/32"))
	s := run(t, l.host, "speaker")
	n := without(node(hostAS), block6)
	delete(n.Peers, "v6")
	s.apply(t, n)
	f.AwaitRoute(block4)
	b.AwaitRoute(block4, "BGP.next_hop: "+host4, "BGP.originator_id: "+host4, "BGP.cluster_list: 10.98.0.99")
	s.awaitLearned(t, routes{}, true, "203.0.113.0/24 ["+other)
}
