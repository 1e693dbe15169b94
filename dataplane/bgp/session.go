package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/margay-project/margay/calc"
)

const (
	defaultPort        = 179
	defaultHold        = 90  // seconds
	defaultRestartTime = 120 // seconds, as Calico
	maxRestartTime     = 4095

	// The time between two attempts to connect, in seconds. GoBGP waits up to twice as long, and by default 120 s: a rebooted router
	// would wait long. Routers get Calico's. After a restart of either end, nodes meet again sooner with a shorter one: for 5 s
	// after a session has ended, GoBGP refuses connections.
	routerRetry = 5
	nodeRetry   = 2
	maxHold     = 65535
)

// global has the values that all sessions share. A change of one restarts the server.
type global struct {
	AS       uint32
	RouterID netip.Addr
	Port     int // -1: do not listen

	// If Bound, the speaker listens only on these addresses; one may be invalid.
	Bound            bool
	Listen4, Listen6 netip.Addr
}

// session has everything that a session with a peer depends on. If it stays equal, the session stays up.
type session struct {
	Address     netip.Addr
	Port        uint16
	AS          uint32
	LocalAS     uint32     // 0: the node's
	Source      netip.Addr // invalid: the kernel chooses
	RestartTime uint16     // seconds
	Retry       uint16     // seconds
	Hold        uint16     // seconds
	Keepalive   uint16     // seconds
	MinTTL      uint8      // 0: no TTL security
	Passive     bool       // the peer connects
	Password    secret     // empty: none
	Cluster     netip.Addr // of this node, if it is a route reflector; otherwise invalid
	Client      bool       // of this reflector
	AllowOwnAS  uint8      // how often our AS may occur in a path of the peer
	MaxPrefixes uint32     // 0: any number
	Interface   string     // to the workload that the peer is; empty for other peers
}

func newGlobal(want calc.BGP, port int) (global, error) {
	if want.AS == 0 {
		return global{}, errors.New("start BGP: this node has no AS number; set asNumber in BGPConfiguration default or in the Node's spec.bgp")
	}
	if !want.RouterID.Is4() {
		return global{}, errors.New("start BGP: this node has no router id; give the Node an ipv4Address in spec.bgp")
	}
	if port == 0 {
		port = int(want.ListenPort)
	}
	if port == 0 {
		port = defaultPort
	}
	g := global{AS: want.AS, RouterID: want.RouterID, Port: port}
	if want.BindNodeIP {
		g.Bound, g.Listen4, g.Listen6 = true, want.V4.Addr(), want.V6.Addr()
	}
	if g.Bound && !g.Listen4.IsValid() && !g.Listen6.IsValid() {
		return global{}, errors.New("start BGP: bindMode is NodeIP, and the Node has no address; give it one in spec.bgp, or remove bindMode")
	}
	return g, nil
}

func newSession(p calc.Peer) (session, error) {
	address := p.Address.Unmap()
	if !address.IsValid() || address.IsUnspecified() || address.IsMulticast() {
		return session{}, fmt.Errorf("%v is not the address of a peer; correct peerIP in the BGPPeer", p.Address)
	}
	if p.AS == 0 {
		return session{}, errors.New("no AS number; set asNumber in the BGPPeer")
	}
	if isLinkLocal(address) && address.Zone() == "" {
		return session{}, fmt.Errorf("the link-local address %v is on every interface; write peerIP with the interface, as %[1]v%%eth0", address)
	}
	source := p.Source.Unmap()
	if source.IsValid() && source.Is4() != address.Is4() {
		return session{}, fmt.Errorf("source %v is not of the peer's family; give the Node an address of that family or set sourceAddress to None", source)
	}
	if p.Password.IsSet() && address.Zone() != "" {
		return session{}, errors.New("GoBGP supports no password with a link-local address; remove the password, also on the peer")
	}
	s := session{
		Address:     address,
		Port:        p.Port,
		AS:          p.AS,
		LocalAS:     p.LocalAS,
		Passive:     p.Passive,
		Source:      source,
		RestartTime: seconds(p.RestartTime, defaultRestartTime, maxRestartTime),
		Keepalive:   seconds(p.Keepalive, defaultHold/3, maxHold/3),
		AllowOwnAS:  p.AllowOwnAS,
		MaxPrefixes: p.MaxPrefixes,
		Interface:   p.Interface,
	}
	if s.Port == 0 {
		s.Port = defaultPort
	}
	s.Retry = routerRetry
	if p.Node != "" {
		s.Retry = nodeRetry
	}
	s.Hold = 3 * s.Keepalive // at least 3 s, the shortest that RFC 4271 allows
	if p.TTLSecurity > 0 {
		// Over N hops, a packet that was sent with a TTL of 255 arrives with at least 256-N (RFC 5082).
		s.MinTTL = uint8(256 - int(p.TTLSecurity))
	}
	return s, nil
}

// seconds rounds up, so a short time never becomes 0, which means none, and keeps below the limit of the protocol.
func seconds(d time.Duration, unset, most uint16) uint16 {
	if d <= 0 {
		return unset
	}
	return uint16(min((d+time.Second-1)/time.Second, time.Duration(most)))
}
