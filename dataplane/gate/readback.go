package gate

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// held is the table in the kernel.
type held struct {
	family nftables.TableFamily
	there  bool
	flags  uint32 // NFT_TABLE_F_*, linux/netfilter/nf_tables.h; ours has none
	chains []*chain
	names  [][]byte // elements of the sets
	ready  [][]byte
}

// read reads the table of a family and everything in it.
func read(family nftables.TableFamily) (held, error) {
	conn, err := nftables.New()
	if err != nil {
		return held{}, err
	}
	tables, err := conn.ListTablesOfFamily(family)
	if err != nil {
		return held{}, err
	}
	at := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName })
	if at < 0 {
		return held{family: family}, nil
	}
	h := held{family: family, there: true, flags: tables[at].Flags}
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return held{}, err
	}
	for _, c := range chains {
		if c.Table.Name != TableName {
			continue
		}
		read := &chain{Chain: *c}
		rules, err := conn.GetRules(c.Table, c)
		for _, r := range rules {
			read.rules = append(read.rules, r.Exprs)
		}
		if err != nil { // a rule that the library cannot read is none of ours
			read.rules = append(read.rules, nil)
		}
		h.chains = append(h.chains, read)
	}
	return h, h.readSets(conn)
}

// readSets reads the elements of the sets. A missing set has none.
func (h *held) readSets(conn *nftables.Conn) error {
	there, err := conn.GetSets(table(h.family))
	if err != nil {
		return err
	}
	names, ready := sets(table(h.family))
	for set, keys := range map[*nftables.Set]*[][]byte{names: &h.names, ready: &h.ready} {
		if !slices.ContainsFunc(there, func(s *nftables.Set) bool { return s.Name == set.Name }) {
			continue
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return err
		}
		*keys = keysOf(elements)
	}
	return nil
}

func keysOf(elements []nftables.SetElement) (keys [][]byte) {
	for _, e := range elements {
		keys = append(keys, e.Key)
	}
	slices.SortFunc(keys, slices.Compare)
	return keys
}

// difference says how the table differs from the wanted one. It is empty if there is no difference. Sets and objects of others
// in the table have no effect and are ignored.
func (h held) difference(rules Rules) string {
	wanted := rules.chains(h.family)
	switch {
	case !h.there:
		return "the table is gone"
	case h.flags != 0:
		return "the table has flags: it is dormant, or another process owns it"
	case !reflect.DeepEqual(h.names, keysOf(nameElements(rules.Names))):
		return fmt.Sprintf("the set workloads has %d other elements", differing(h.names, keysOf(nameElements(rules.Names))))
	case !reflect.DeepEqual(h.ready, keysOf(indexElements(rules.Ready))):
		return fmt.Sprintf("the set ready has %d other elements", differing(h.ready, keysOf(indexElements(rules.Ready))))
	}
	for _, c := range h.chains {
		if !slices.ContainsFunc(wanted, func(w *chain) bool { return w.Name == c.Name }) {
			return fmt.Sprintf("chain %s is not ours", c.Name)
		}
	}
	for _, w := range wanted {
		at := slices.IndexFunc(h.chains, func(c *chain) bool { return c.Name == w.Name })
		if at < 0 {
			return fmt.Sprintf("chain %s is gone", w.Name)
		}
		if text := h.chains[at].difference(w); text != "" {
			return fmt.Sprintf("chain %s: %s", w.Name, text)
		}
	}
	return ""
}

func differing(a, b [][]byte) (n int) {
	for _, pair := range [][2][][]byte{{a, b}, {b, a}} {
		for _, key := range pair[0] {
			if !slices.ContainsFunc(pair[1], func(k []byte) bool { return slices.Equal(k, key) }) {
				n++
			}
		}
	}
	return n
}

// difference says how a chain differs from the wanted one.
func (c *chain) difference(wanted *chain) string {
	switch {
	case c.Type != wanted.Type || !reflect.DeepEqual(c.Hooknum, wanted.Hooknum) || !reflect.DeepEqual(c.Priority, wanted.Priority):
		return "it is at another hook"
	case c.Policy == nil || *c.Policy != *wanted.Policy:
		return "it has another policy"
	case len(c.rules) != len(wanted.rules):
		return fmt.Sprintf("it has %d rules instead of %d", len(c.rules), len(wanted.rules))
	}
	for i, rule := range c.rules {
		if !slices.EqualFunc(rule, wanted.rules[i], sameExpression) {
			return fmt.Sprintf("rule %d differs", i+1)
		}
	}
	return ""
}

// sameExpression compares two expressions, without the counts of counters.
func sameExpression(a, b expr.Any) bool {
	_, counts := a.(*expr.Counter)
	_, counter := b.(*expr.Counter)
	if counts || counter {
		return counts == counter
	}
	return reflect.DeepEqual(a, b)
}

// Sound says whether the present table, which another process may have made, closes the interfaces in its set workloads.
func Sound(mark uint32) (bool, error) {
	held, err := read(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(err)
	}
	if !held.there || held.flags != 0 {
		return false, nil
	}
	for _, w := range (Rules{Mark: mark}).chains(held.family)[:2] {
		closes := func(c *chain) bool {
			at := len(c.rules) - 1 // the rule for the set stands behind those for prefixes
			return c.Name == w.Name && at >= 0 && (&chain{c.Chain, c.rules[at:]}).difference(w) == ""
		}
		if !slices.ContainsFunc(held.chains, closes) {
			return false, nil
		}
	}
	return true, nil
}

// AsksToHost says whether the present table, which another process may have made, drops packets to this host without ToHostMark.
func AsksToHost() (bool, error) {
	held, err := read(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(err)
	}
	return slices.ContainsFunc(held.chains, func(c *chain) bool { return c.Name == toHostChain && len(c.rules) > 0 }), nil
}

// Lost returns the number of packets that policy allowed and other firewalls dropped at the forward hook, since the table was
// made. The table counts them only with Rules.Forward.
func Lost() (uint64, error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, explain(err)
	}
	var counts [2]uint64
	for i, name := range []string{judgedChain, passedChain} { // in this order, so packets between the two chains do not seem lost
		rules, err := conn.GetRules(table(nftables.TableFamilyINet), &nftables.Chain{Name: name})
		if err != nil {
			return 0, explain(err)
		}
		for _, r := range rules {
			if c, ok := r.Exprs[len(r.Exprs)-1].(*expr.Counter); ok {
				counts[i] = c.Packets
			}
		}
	}
	if counts[0] < counts[1] {
		return 0, nil
	}
	return counts[0] - counts[1], nil
}
