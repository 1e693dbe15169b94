package bgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// The gate is a neighbour of our own, over the loopback, that has graceful restart and never finishes sending.
//
// GoBGP v3 takes our restart for finished, for all peers, when those that are up have sent their routes. A neighbour
// that connects after that, be it a millisecond, hears that forwarding was not preserved, drops the routes that it keeps
// for us and learns them anew. While the gate is up that moment does not come; each peer is served when its own
// deferral time is over.
type gate struct {
	conn net.Conn
	over chan struct{} // closed when the connection has ended
}

var gateAddress = netip.AddrFrom4([4]byte{127, 0, 0, 2})

func (g *gobgpServer) beginRestart() error {
	if g.global.Port < 0 {
		return errors.New("not listening")
	}
	peer := apiPeer(session{Address: gateAddress, AS: g.global.AS, RestartTime: 1, Hold: maxHold, Keepalive: maxHold / 3}, false)
	peer.Transport.PassiveMode = true
	if err := g.bgp.AddPeer(context.Background(), &api.AddPeerRequest{Peer: peer}); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if g.peers()[gateAddress].State == established {
			return nil
		}
		g.dialGate() // again, when the peer was not ready
		time.Sleep(10 * time.Millisecond)
	}
	g.endRestart()
	return fmt.Errorf("no session with ourselves: %s", g.lastError(gateAddress).Text)
}

func (g *gobgpServer) endRestart() {
	_ = g.deletePeer(gateAddress)
	g.closeGate()
}

func (g *gobgpServer) closeGate() {
	if g.gate.conn != nil {
		_ = g.gate.conn.Close()
		g.gate.conn = nil
	}
}

// dialGate connects, unless it is connected, and says all that the gate ever says.
func (g *gobgpServer) dialGate() {
	if g.gate.conn != nil {
		select {
		case <-g.gate.over:
			g.closeGate()
		default:
			return
		}
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: gateAddress.AsSlice()}, Timeout: time.Second}
	conn, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", g.global.Port))
	if err != nil {
		return
	}
	for _, m := range []*bgp.BGPMessage{gateOpen(g.global.AS), bgp.NewBGPKeepAliveMessage()} {
		b, err := m.Serialize()
		if err == nil {
			_, err = conn.Write(b)
		}
		if err != nil {
			_ = conn.Close()
			return
		}
	}
	over := make(chan struct{})
	g.gate = gate{conn, over}
	go func() { // ends with the connection
		defer close(over)
		_, _ = io.Copy(io.Discard, conn)
	}()
}

func gateOpen(as uint32) *bgp.BGPMessage {
	short := uint16(bgp.AS_TRANS)
	if as < 1<<16 {
		short = uint16(as)
	}
	// The hold time outlasts the gate, so that it needs no keepalives. (None at all, 0, GoBGP v3 cannot do.)
	return bgp.NewBGPOpenMessage(short, maxHold, gateAddress.String(), []bgp.OptionParameterInterface{
		bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
			bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC),
			bgp.NewCapFourOctetASNumber(as),
			bgp.NewCapGracefulRestart(false, false, 1, []*bgp.CapGracefulRestartTuple{
				bgp.NewCapGracefulRestartTuple(bgp.RF_IPv4_UC, false),
			}),
		}),
	})
}
