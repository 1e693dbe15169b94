package classifier

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-project/margay/calc"
)

var nested = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16"),
	netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"),
	netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::/16"), netip.MustParsePrefix("::/90"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("::ffff:10.0.0.0/104"),
}

// probes has one address of each prefix that is in none of the longer prefixes.
func probes() []netip.Addr {
	var out []netip.Addr
	for _, text := range []string{"11.0.0.0", "10.9.0.0", "10.0.9.0", "10.0.0.9", "10.0.0.1", "10.0.0.2",
		"fd00::1", "0:1::", "::2", "::1"} {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// At every moment of a change an address has its old class or its new one, and never a third: a nested entry must not
// fall back to the prefix around it before that has its new class.
func TestEachAddressMovesInOneStep(t *testing.T) {
	t.Parallel()
	for i := range 400 * *rounds {
		r := random(t, i)
		n := newNode(t, Sizes{Blocks: 1, Vectors: 500, Chunks: 10, Hosts: 100, Nets: 100})
		sets := map[calc.SetID]calc.Members{"a": {}, "b": {}, "c": {}}
		for id := range sets {
			n.Classifier.addresses.set(id)
		}
		for range 6 {
			next := map[calc.SetID]calc.Members{}
			for id := range sets {
				next[id] = calc.Members{}
				for _, p := range nested {
					if _, in := sets[id][p]; in == (r.IntN(4) > 0) {
						next[id][p] = struct{}{}
					}
				}
			}
			n.fail = func() bool { return false }
			if r.IntN(3) == 0 {
				n.fail = func() bool { return r.IntN(4) == 0 }
			}
			moved(t, n, sets, next)
			sets = next
		}
	}
}

func moved(t *testing.T, n *node, from, to map[calc.SetID]calc.Members) {
	t.Helper()
	a := n.Classifier.addresses
	n.hook = func(p netip.Prefix) {
		for _, x := range probes() {
			if have := seen(n, x); have != setsOf(from, x) && have != setsOf(to, x) {
				t.Fatalf("after a write of %v %v is in %s, before in %s, at the end in %s",
					p, x, have, setsOf(from, x), setsOf(to, x))
			}
		}
	}
	for id := range to {
		var d calc.SetDelta
		for p := range to[id] {
			d.Added = append(d.Added, p)
		}
		for p := range from[id] {
			if _, stays := to[id][p]; !stays {
				d.Removed = append(d.Removed, p)
			}
		}
		a.changeMembers(a.known(id), d)
	}
	if err := a.update(0); err != nil { // entries that failed wait, and the prefixes around them too
		n.fail = func() bool { return false }
		if err := a.update(0); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range probes() {
		if have := seen(n, x); have != setsOf(to, x) {
			t.Fatalf("%v is in %s, want %s", x, have, setsOf(to, x))
		}
	}
}

// seen returns the sets of the class that the tables give an address.
func seen(n *node, x netip.Addr) string {
	source, _ := n.Vectors(x)
	var ids []string
	for _, c := range n.Classifier.addresses.byKey {
		if c.vectors[0] == source && source != 0 {
			for _, a := range c.atoms {
				ids = append(ids, string(a.views[0].set.id))
			}
		}
	}
	slices.Sort(ids)
	return fmt.Sprint(ids)
}

func setsOf(sets map[calc.SetID]calc.Members, x netip.Addr) string {
	var ids []string
	for id, m := range sets {
		if m.Contain(x) {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return fmt.Sprint(ids)
}
