package bgp

import (
	"net"
	"testing"

	"github.com/margay-project/margay/internal/lab"
)

// A connection by an interface that was made anew must not use the index of the former one.
func TestAConnectionUsesTheInterfaceThatHasTheNameNow(t *testing.T) {
	t.Parallel()
	h := lab.NewHost(t)
	dial := func() error {
		return h.Do(func() error {
			c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.ParseIP("fe80::2"), Port: 9, Zone: "zone0"})
			if err == nil {
				_ = c.Close()
			}
			return err
		})
	}
	for _, other := range []string{"zone1", "zone2", "zone3"} {
		lab.Cable(h, "zone0", h, other)
		h.Up("zone0", "fe80::1/64")
		h.Must(func() error {
			renewZones()
			return nil
		})
		if err := dial(); err != nil {
			t.Errorf("beside %s: %v", other, err)
		}
		h.MustRun("ip", "link", "delete", "zone0")
		if err := dial(); err == nil {
			t.Error("a connection without the interface")
		}
		lab.Cable(h, other+"a", h, other+"b") // so that the next one gets another index
	}
}
