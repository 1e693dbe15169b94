package fib_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// The time of each lookup on a host with that many foreign routes, such as a router.
func BenchmarkRouteLookups(b *testing.B) {
	for _, foreign := range []int{0, 300_000} {
		b.Run(fmt.Sprintf("foreign=%d", foreign), func(b *testing.B) {
			index, _, reader := newHost(b)
			feed(b, index, foreign)
			must(b, netlink.RouteAdd(&netlink.Route{Dst: network("10.0.0.1/32"), LinkIndex: index, Scope: netlink.SCOPE_LINK, Protocol: 86}))
			b.Run("of", func(b *testing.B) {
				for b.Loop() {
					own, err := reader.Of(86, netlink.FAMILY_V4)
					if err != nil || len(own) != 1 {
						b.Fatal(len(own), err)
					}
				}
			})
			b.Run("best", func(b *testing.B) {
				for b.Loop() {
					if _, found := reader.Best(netip.MustParsePrefix("10.0.0.1/32")); !found {
						b.Fatal("not found")
					}
				}
			})
			b.Run("defaults", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := reader.Defaults(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
