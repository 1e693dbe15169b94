package dataplane

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// sendFrom sends a datagram from a source port that the test chooses.
func (m *vm) sendFrom(from int, to netip.Addr, port int) {
	m.h.Helper()
	must(m.h, m.Do(func() error {
		c, err := net.DialUDP("udp", &net.UDPAddr{Port: from}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, uint16(port))))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("hello"))
		return errors.Join(err, c.Close())
	}))
}

func TestADatagramFromAWellKnownPortIsNoAnswer(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	service, err := net.ListenPacket("udp4", ":81")
	must(t, err)
	defer service.Close()
	hep := &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: "HostEndpoint"}, Metadata: api.Metadata{Name: "eth0"},
		Spec: api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0"}}
	raw := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: "GlobalNetworkPolicy"}, Metadata: api.Metadata{Name: "raw"},
		Spec: api.GlobalNetworkPolicySpec{Selector: "all()", DoNotTrack: true, ApplyOnForward: true, Ingress: []api.Rule{
			{Action: api.Deny, Source: api.EntityRule{Nets: []string{"203.0.113.0/24"}}},
		}}}
	w := newWorld()
	w.State = calc.Compute("n1", calc.Facts{}, []api.Update{{Key: api.KeyOf(hep), Object: hep}, {Key: api.KeyOf(raw), Object: raw}})
	w.Ready = true
	w.Config.FlowTableSize = 4096
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !outside.Reaches("tcp", hostAddress, 22) {
		t.Error("the failsafe port does not answer")
	}
	for range 3 { // the first packet may wait for ARP
		outside.sendFrom(53, hostAddress, 81)
		must(t, service.SetReadDeadline(time.Now().Add(lab.AnswerTime)))
		if n, _, err := service.ReadFrom(make([]byte, 16)); err == nil {
			t.Errorf("%d bytes from port 53 reached a port that no policy opens", n)
		}
	}
}
