package firewall

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/margay-project/margay/dataplane/gate"
)

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

// readNftables finds the chains in nftables, including those of iptables-nft.
func readNftables(mark uint32) ([]Chain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("look for firewalls in nftables: %w", err)
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("look for firewalls in nftables: %w", err)
	}
	var found []Chain
	for _, c := range all {
		family := families[c.Table.Family]
		forwards := c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Type == nftables.ChainTypeFilter
		if family == "" || !forwards || c.Table.Name == gate.TableName {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, fmt.Errorf("read chain %s of nftables table %s %s: %w", c.Name, family, c.Table.Name, err)
		}
		if how := howNftables(c, rules); how != "" {
			found = append(found, Chain{
				Tool: toolOf(family, c), Family: family, Table: c.Table.Name, Name: c.Name, How: how, Accepts: accepts(rules, mark),
			})
		}
	}
	return found, nil
}

// toolOf recognises the chain of iptables-nft by its name: iptables takes any such chain for its own.
func toolOf(family string, c *nftables.Chain) string {
	if c.Table.Name != "filter" || c.Name != "FORWARD" {
		return ""
	}
	return map[string]string{"ip": "iptables-nft", "ip6": "ip6tables-nft"}[family]
}

func hasNftables(family string) bool {
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	tables, err := conn.ListTables()
	return err == nil && slices.ContainsFunc(tables, func(t *nftables.Table) bool {
		return families[t.Family] == family && t.Name == "filter"
	})
}

// howNftables says how a chain drops by default. It is empty if the chain does not.
func howNftables(c *nftables.Chain, rules []*nftables.Rule) string {
	switch {
	case len(rules) > 0 && dropsAll(rules[len(rules)-1]):
		return lastRule
	case c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop:
		return policyDrop
	}
	return ""
}

// dropsAll says whether a rule has no condition and drops or rejects.
func dropsAll(r *nftables.Rule) bool {
	for i, e := range r.Exprs {
		last := i == len(r.Exprs)-1
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			return last && e.Kind == expr.VerdictDrop
		case *expr.Reject:
			return last
		case *expr.Target:
			return last && e.Name == "REJECT"
		default:
			return false
		}
	}
	return false
}

// accepts says whether a rule accepts packets with our mark without a further condition.
func accepts(rules []*nftables.Rule, mark uint32) bool {
	return slices.ContainsFunc(rules, func(r *nftables.Rule) bool {
		exprs := slices.DeleteFunc(slices.Clone(r.Exprs), func(e expr.Any) bool {
			_, counts := e.(*expr.Counter)
			return counts
		})
		if len(exprs) != 4 {
			return false
		}
		bits := binaryutil.NativeEndian.PutUint32(mark)
		meta, isMeta := exprs[0].(*expr.Meta)
		and, isAnd := exprs[1].(*expr.Bitwise)
		cmp, isCmp := exprs[2].(*expr.Cmp)
		verdict, isVerdict := exprs[3].(*expr.Verdict)
		return isMeta && isAnd && isCmp && isVerdict && meta.Key == expr.MetaKeyMARK && !meta.SourceRegister &&
			slices.Equal(and.Mask, bits) && slices.Equal(and.Xor, make([]byte, 4)) &&
			cmp.Op == expr.CmpOpEq && slices.Equal(cmp.Data, bits) && verdict.Kind == expr.VerdictAccept
	})
}
