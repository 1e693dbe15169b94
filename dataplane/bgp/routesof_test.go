package bgp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"
)

// Paths of one event that look alike share what was read of the first, and those that do not have their own.
func TestRoutesOfAnEvent(t *testing.T) {
	path := func(to, peer, next string, withdrawn bool) *api.Path {
		return &api.Path{
			NeighborIp: peer, IsWithdraw: withdrawn, Family: apiFamily(addr("10.0.0.1")),
			Nlri:   pack(t, &api.IPAddressPrefix{Prefix: to, PrefixLen: 32}),
			Pattrs: []*anypb.Any{pack(t, &api.OriginAttribute{}), pack(t, &api.NextHopAttribute{NextHop: next})},
		}
	}
	const own = "<nil>"
	got := routesOf([]*api.Path{
		path("203.0.113.1", "10.0.0.1", "10.0.0.1", false),
		path("203.0.113.2", "10.0.0.1", "10.0.0.1", false), // like the one before
		path("203.0.113.3", "10.0.0.1", "10.0.0.7", false), // another next hop
		path("203.0.113.4", "10.0.0.2", "10.0.0.7", false), // another peer
		path("203.0.113.5", own, "0.0.0.0", false),
		path("203.0.113.6", own, "0.0.0.0", false),
		path("203.0.113.7", "10.0.0.1", "0.0.0.0", false), // no next hop
		path("203.0.113.8", "10.0.0.2", "10.0.0.2", true),
		path("203.0.113.9", "10.0.0.2", "10.0.0.2", false),
		path("203.0.113.9", "10.0.0.1", "10.0.0.1", false), // several ways
		path("203.0.113.1", "10.0.0.3", "10.0.0.3", false), // one more for a prefix that shared its way
		path("203.0.113.1", "10.0.0.3", "10.0.0.3", false), // twice
	})
	one := Way{addr("10.0.0.1"), addr("10.0.0.1")}
	want := map[netip.Prefix][]Way{
		prefix("203.0.113.1/32"): {one, {addr("10.0.0.3"), addr("10.0.0.3")}},
		prefix("203.0.113.2/32"): {one},
		prefix("203.0.113.3/32"): {{addr("10.0.0.1"), addr("10.0.0.7")}},
		prefix("203.0.113.4/32"): {{addr("10.0.0.2"), addr("10.0.0.7")}},
		prefix("203.0.113.5/32"): nil,
		prefix("203.0.113.6/32"): nil,
		prefix("203.0.113.7/32"): nil,
		prefix("203.0.113.8/32"): nil,
		prefix("203.0.113.9/32"): {one, {addr("10.0.0.2"), addr("10.0.0.2")}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The best paths to our own prefixes come over the same stream. They must not wake anybody.
func TestOwnPathsAreNoNews(t *testing.T) {
	l := newLearned()
	isNews := func() bool {
		select {
		case <-l.news:
			return true
		default:
			return false
		}
	}
	own, other := prefix("192.0.2.0/26"), prefix("203.0.113.0/24")
	way := Way{addr("10.0.0.1"), addr("10.0.0.1")}
	for _, row := range []struct {
		name   string
		routes map[netip.Prefix][]Way
		news   bool
		taken  int
	}{
		{"an own path", map[netip.Prefix][]Way{own: nil}, false, 0},
		{"a learned one beside it", map[netip.Prefix][]Way{own: nil, other: {way}}, true, 1},
		{"a withdrawal", map[netip.Prefix][]Way{other: nil}, true, 1},
		{"a withdrawal again", map[netip.Prefix][]Way{other: nil}, false, 0},
	} {
		l.put(row.routes)
		if got := isNews(); got != row.news {
			t.Errorf("%s is news: %v", row.name, got)
		}
		if got := l.take(); len(got) != row.taken {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// Paths with different attributes do not get those of the last one.
func TestAttributesOfOwnPathsAreKeptForTheSameOnly(t *testing.T) {
	var l lastAttributes
	for range 2 {
		for _, row := range []struct {
			v4          bool
			communities []string
			mark        uint32
		}{{true, nil, 0}, {true, nil, 0}, {false, nil, 0}, {true, nil, 1}, {true, []string{"1:2"}, 1}, {true, []string{"1:2", "65535:0"}, 1}} {
			got, err := l.of(row.v4, row.communities, row.mark)
			want, failed := apiAttributes(row.v4, row.communities, row.mark)
			if err != nil || failed != nil || len(got) != len(want) {
				t.Fatalf("%+v: errors %v, %v; %d attributes, want %d", row, err, failed, len(got), len(want))
			}
			for i := range got {
				if !sameAttribute(got[i], want[i]) {
					t.Errorf("%+v: attribute %d is %v, want %v", row, i, got[i], want[i])
				}
			}
		}
	}
	if _, err := l.of(true, []string{"nonsense"}, 0); err == nil {
		t.Error("no error")
	}
}
