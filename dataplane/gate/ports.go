package gate

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// portChains returns the chains of the table of the family bridge: the hooks of inet do not see what a bridge forwards. Frames of link
// control pass input only. The hooks of the family bridge have the numbers of those of inet (linux/netfilter_bridge.h).
func (r Rules) portChains() []*chain {
	names, ready := sets(table(nftables.TableFamilyBridge))
	from := newChain("from_ports", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityFirst)
	control := newChain("control_from_ports", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFirst)
	to := newChain("to_ports", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, nftables.ChainPriorityFirst)
	for _, prefix := range r.Prefixes {
		from.add(name(expr.MetaKeyIIFNAME, []byte(prefix)), unmarked(r.Mark), drop())
		control.add(name(expr.MetaKeyIIFNAME, []byte(prefix)), unmarked(r.Mark), drop())
		to.add(name(expr.MetaKeyOIFNAME, []byte(prefix)), lookup(expr.MetaKeyOIF, ready, true), drop())
	}
	from.add(lookup(expr.MetaKeyIIFNAME, names, false), unmarked(r.Mark), drop())
	control.add(lookup(expr.MetaKeyIIFNAME, names, false), unmarked(r.Mark), drop())
	to.add(lookup(expr.MetaKeyOIFNAME, names, false), lookup(expr.MetaKeyOIF, ready, true), drop())
	chains := []*chain{from, control, to}
	if r.Forward {
		chains = append(chains, r.markJudged(ready))
	}
	return chains
}

// markJudged marks packets to and from ports before br_netfilter shows them to the forward chains of other firewalls, as the chain judged
// of the table inet does. There they seem to come from the bridge and to go to it.
func (r Rules) markJudged(ready *nftables.Set) *chain {
	judged := newChain(judgedChain, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFirst)
	judged.add(lookup(expr.MetaKeyIIF, ready, false), setMark(^uint32(0), r.Mark))
	judged.add(lookup(expr.MetaKeyOIF, ready, false), setMark(^uint32(0), r.Mark))
	return judged
}
