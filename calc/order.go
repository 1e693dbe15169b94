package calc

import (
	"cmp"
	"strings"
)

// The order of evaluation: the tiers in their order, and in each tier its policies in theirs. It is defined here and nowhere
// else; the classifier arranges its slots by these functions.

// Compare is the order among tiers: by Order, then by name. Tiers that do not exist come last.
func (t Tier) Compare(u Tier) int {
	switch {
	case t.Missing && !u.Missing:
		return 1
	case u.Missing && !t.Missing:
		return -1
	}
	return cmp.Or(t.Order.Compare(u.Order), strings.Compare(t.Name, u.Name))
}

// Compare puts lower numbers first, and an unset Order after every number.
func (o Order) Compare(p Order) int {
	switch {
	case o.Set && p.Set:
		return cmp.Compare(o.Value, p.Value)
	case o.Set:
		return -1
	case p.Set:
		return 1
	}
	return 0
}

// TieBreak is the text by which policies of one tier with the same Order are sorted, as in Calico.
func (id PolicyID) TieBreak() string { return id.Name + "/" + id.Namespace + "/" + id.Kind }

// Compare is the order among policies of one tier with the same Order: that of TieBreak.
func (id PolicyID) Compare(other PolicyID) int {
	if n := min(len(id.Name), len(other.Name)); id.Name[:n] != other.Name[:n] {
		return strings.Compare(id.Name, other.Name) // without building the texts
	}
	return strings.Compare(id.TieBreak(), other.TieBreak())
}

// compareIn is the order among policies of any tiers: by tier, Order and TieBreak. tiers are those that exist, by name.
func (p Policy) compareIn(tiers map[string]Tier, q Policy) int {
	if p.Tier != q.Tier {
		return tierNamed(tiers, p.Tier).Compare(tierNamed(tiers, q.Tier))
	}
	return cmp.Or(p.Order.Compare(q.Order), p.ID.Compare(q.ID))
}
