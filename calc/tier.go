package calc

import "github.com/margay-project/margay/api"

// readTier reads a Tier. An invalid one counts as missing.
func readTier(u api.Update) (Tier, bool) {
	tier, ok := u.Object.(*api.Tier)
	if !ok || tier == nil || u.Invalid != "" {
		return Tier{}, false
	}
	t := Tier{Name: u.Key.Name, Order: orderOf(tier.Spec.Order), Default: api.Deny}
	if end := tier.Spec.DefaultAction; end != nil && *end == api.Pass {
		t.Default = api.Pass
	}
	return t, true
}

// tierNamed is the tier of that name. One that does not exist comes last and denies.
func tierNamed(tiers map[string]Tier, name string) Tier {
	if t, ok := tiers[name]; ok {
		return t
	}
	return Tier{Name: name, Missing: true, Default: api.Deny}
}

func orderOf(o *float64) Order {
	if o == nil {
		return Order{}
	}
	return Order{Value: *o, Set: true}
}

// noTier is the problem of a tier that does not exist although active policies are in it.
func noTier(name string) Problem {
	return Problem{
		Object: api.Key{Kind: api.KindTier, Name: name},
		Text:   "does not exist, but policies are in it: it comes last and denies; create it or move them",
	}
}

// noProfile is the problem of a profile that does not exist although endpoints of this node have it.
func noProfile(name string) Problem {
	return Problem{
		Object: api.Key{Kind: api.KindProfile, Name: name},
		Text:   "does not exist, but endpoints of this node name it: it denies everything; create it or correct them",
	}
}

// updateTiers reads the tiers that changed. When one moves in the order, every group's lists must be arranged again.
func (g *Graph) updateTiers(updates []api.Update) {
	for _, u := range updates {
		old, existed := g.tiers[u.Key.Name]
		t, exists := readTier(u)
		if exists {
			g.tiers[t.Name] = t
		} else {
			delete(g.tiers, u.Key.Name)
		}
		g.active.pendingTiers[u.Key.Name] = struct{}{}
		if existed != exists || old.Order != t.Order {
			for _, grp := range g.local.groups {
				g.local.pendingGroups[grp] = struct{}{}
			}
		}
	}
}
