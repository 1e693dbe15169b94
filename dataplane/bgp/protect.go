package bgp

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
)

// addProtected adds a peer with a password. If the kernel does not take the password for the listener, GoBGP v3 only logs that, and
// would accept connections without a password. So the peer is added closed, and opened when there is no such line in the log.
func (g *gobgpServer) addProtected(s session, peer *api.Peer) error {
	ctx, address := context.Background(), s.Address.String()
	peer.Conf.AdminDown = true
	if err := g.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		return err
	}
	g.protected[s.Address] = s
	err := g.journal.passwordError(s.Address)
	if err == nil {
		err = g.bgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: address})
	}
	if err != nil {
		_ = g.deletePeer(s.Address)
		return fmt.Errorf("the kernel does not take the password for the listener: %w; "+
			"it needs CONFIG_TCP_MD5SIG, and with many peers a larger net.core.optmem_max", err)
	}
	return nil
}

// unprotect takes the password of a peer off the listener. DeletePeer of GoBGP v3 leaves it there: a later peer with this address and
// without a password could not connect. The peer is closed at the same time, so nobody can connect without the password.
func (g *gobgpServer) unprotect(a netip.Addr) error {
	s, protected := g.protected[a]
	if !protected {
		return nil
	}
	s.Password = ""
	peer := apiPeer(s, false)
	peer.Conf.AdminDown = true
	if _, err := g.bgp.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("take its password off the listener: %w", err)
	}
	delete(g.protected, a)
	return nil
}
