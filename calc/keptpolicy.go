package calc

import "github.com/margay-project/margay/api"

// keptPolicy is a policy of the datastore as Graph keeps it. Most policies are not active on a node, and those are packed.
// packed or read is set, or both.
type keptPolicy struct {
	packed    string     // empty: the policy was replaced, and not packed since
	read      *policy    // nil: nothing needed the policy since it was packed
	selection *selection // of its selector
}

// policy unpacks the policy if that is necessary. It stays unpacked until pack.
func (k *keptPolicy) policy() *policy {
	if k.read == nil {
		k.read = unpackPolicy(k.packed)
	}
	return k.read
}

// pack leaves the policy only packed.
func (k *keptPolicy) pack() {
	if k.packed == "" {
		k.packed = k.read.pack()
	}
	k.read = nil
}

// updatePolicies reads the policies that changed, and makes those pending that are active.
func (g *Graph) updatePolicies(updates []api.Update) {
	for _, u := range updates {
		var now *policy
		if u.Object != nil || u.Invalid != "" {
			now = readPolicy(u)
			g.problems.set(u.Key, "policy", now.problems...)
		} else {
			g.problems.set(u.Key, "policy")
		}
		g.replacePolicy(u.Key, now)
		g.active.markIfActive(PolicyID{Kind: u.Key.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name})
	}
}

// replacePolicy stores a policy in place of the one with the same key, if any. now == nil: the policy was deleted. If its selector, tier,
// order or stages changed, the groups of its old and its new selector become pending.
func (g *Graph) replacePolicy(key api.Key, now *policy) {
	print := printOf(g.prints, key)
	k := g.policies[print]
	if k == nil && now == nil {
		return
	}
	var old *policy
	if k == nil {
		k = &keptPolicy{}
		g.policies[print] = k
	} else {
		old = k.policy()
	}
	reselected := old == nil || now == nil || old.selector.String() != now.selector.String()
	if old != nil {
		if reselected || old.Tier != now.Tier || old.Order != now.Order || old.stages != now.stages {
			g.local.rearrange(k.selection)
		}
		if reselected {
			g.local.deselect(k)
		}
	}
	if now == nil {
		delete(g.policies, print)
		return
	}
	k.packed, k.read = "", now
	if g.active.refs[now.ID] == 0 {
		k.pack()
	}
	if reselected {
		k.selection = g.local.selectionOf(now.selector)
		k.selection.policies.put(k)
		g.local.rearrange(k.selection)
	}
}
