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

// The gate is a BGP peer that this process plays itself, over the loopback. It has graceful restart and never sends an end
// of RIB.
//
// GoBGP v3 ends our restart for all peers when the peers that are up have sent their routes. A peer that connects later, even
// by a millisecond, hears that forwarding was not preserved. It drops the routes that it keeps for us and learns them anew. While
// the gate is up, our restart does not end; each peer gets our routes when its own deferral time is over.
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
		g.dialGate() // again if the peer was not ready
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

// dialGate connects if it is not connected, and sends the only two messages of the gate: OPEN and one KEEPALIVE.
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
	// The hold time outlasts the gate, so the gate needs no further keepalives. GoBGP v3 does not support a hold time of 0.
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
