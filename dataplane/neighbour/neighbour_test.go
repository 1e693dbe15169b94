package neighbour

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/internal/lab"
)

// BenchmarkTell is a host with a thousand new workloads and ten interfaces, none of which resolves them: the usual case.
func BenchmarkTell(b *testing.B) {
	host := lab.Enter(b)
	var on []Interface
	for i := range 10 {
		name := fmt.Sprint("net", i)
		host.Bridge(name)
		host.Up(name, fmt.Sprintf("192.0.2.%d/32", i+1))
		link, err := net.InterfaceByName(name)
		if err != nil {
			b.Fatal(err)
		}
		on = append(on, Interface{Index: link.Index, Name: name, MAC: link.HardwareAddr})
	}
	var addresses []netip.Addr
	for i := range 500 {
		four, six := [4]byte{10, 65, byte(i >> 8), byte(i)}, [16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}
		addresses = append(addresses, netip.AddrFrom4(four), netip.AddrFrom16(six))
	}
	for b.Loop() {
		if sent, err := Tell(addresses, on); sent > 0 || err != nil {
			b.Fatalf("%d messages, %v", sent, err)
		}
	}
}
