package api

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

func (c *checker) bgpFilter(f *BGPFilter) {
	c.name(f.Name, 127)
	c.filterRules("spec.exportV4", f.Spec.ExportV4, 4)
	c.filterRules("spec.importV4", f.Spec.ImportV4, 4)
	c.filterRules("spec.exportV6", f.Spec.ExportV6, 6)
	c.filterRules("spec.importV6", f.Spec.ImportV6, 6)
}

func (c *checker) filterRules(path string, rules []BGPFilterRule, family int) {
	for i := range rules {
		c.filterRule(at(path, i), &rules[i], family)
	}
}

func (c *checker) filterRule(path string, r *BGPFilterRule, family int) {
	c.filterNetwork(path, r, family)
	c.oneOf(path+".source", r.Source, "RemotePeers")
	c.oneOf(path+".peerType", r.PeerType, "eBGP", "iBGP")
	if r.Interface != "" && !isInterfacePattern(r.Interface) {
		c.add(path+".interface", r.Interface, "want the name of an interface, at most 15 characters, in which * stands for any text")
	}
	if r.Communities != nil {
		if n := len(r.Communities.Values); n != 1 {
			c.add(path+".communities.values", fmt.Sprintf("%d communities", n), "want exactly 1")
		}
		for i, community := range r.Communities.Values {
			c.community(at(path+".communities.values", i), community)
		}
	}
	if r.Priority != nil {
		c.between(path+".priority", int64(*r.Priority), 1, math.MaxInt32-1)
	}
	c.oneOf(path+".action", r.Action, "Accept", "Reject")
	if r.Action == "" {
		c.add(path+".action", "", "missing: want Accept or Reject")
	}
	c.filterOperations(path+".operations", r)
}

// filterNetwork checks the fields of a rule that match a route's network.
func (c *checker) filterNetwork(path string, r *BGPFilterRule, family int) {
	c.oneOf(path+".matchOperator", r.MatchOperator, "Equal", "NotEqual", "In", "NotIn")
	switch {
	case r.CIDR == "" && r.MatchOperator != "":
		c.add(path+".matchOperator", r.MatchOperator, "only with a cidr")
	case r.CIDR != "" && r.MatchOperator == "":
		c.add(path+".matchOperator", "", "missing: cidr needs Equal, NotEqual, In or NotIn")
	}
	if r.CIDR != "" {
		c.filterCIDR(path+".cidr", r.CIDR, family)
	}
	if r.PrefixLength == nil {
		return
	}
	if r.CIDR == "" {
		c.add(path+".prefixLength", r.PrefixLength, "only with a cidr")
	}
	longest := int64(32)
	if family == 6 {
		longest = 128
	}
	for name, length := range inOrder(map[string]*int32{"min": r.PrefixLength.Min, "max": r.PrefixLength.Max}) {
		if length != nil {
			c.between(path+".prefixLength."+name, int64(*length), 0, longest)
		}
	}
}

func (c *checker) filterCIDR(path, text string, family int) {
	example, longest := "10.0.0.0/8", 18
	if family == 6 {
		example, longest = "fd00::/8", 43
	}
	p, err := ParseNet(text)
	switch {
	case err != nil || !strings.Contains(text, "/") || p.Addr().Is4() != (family == 4):
		c.add(path, text, "want an IPv%d network such as %s", family, example)
	case len(text) > longest:
		c.add(path, text, "%d characters: want at most %d", len(text), longest)
	case hasHostBits(text):
		c.add(path, text, "address bits outside of the prefix are set: did you mean %s?", p)
	}
}

func (c *checker) filterOperations(path string, r *BGPFilterRule) {
	if n := len(r.Operations); n > 10 {
		c.add(path, fmt.Sprintf("%d operations", n), "want at most 10")
	}
	if len(r.Operations) > 0 && r.Action != "Accept" {
		c.add(path, fmt.Sprintf("%d operations", len(r.Operations)), "only for the action Accept: remove them")
	}
	for i, o := range r.Operations {
		c.filterOperation(at(path, i), o)
	}
}

func (c *checker) filterOperation(path string, o BGPFilterOperation) {
	given := 0
	if add := o.AddCommunity; add != nil {
		given++
		c.community(path+".addCommunity.value", add.Value)
	}
	if prepend := o.PrependASPath; prepend != nil {
		given++
		if n := len(prepend.Prefix); n < 1 || n > 10 {
			c.add(path+".prependASPath.prefix", fmt.Sprintf("%d AS numbers", n), "want 1 to 10")
		}
	}
	if set := o.SetPriority; set != nil {
		given++
		c.between(path+".setPriority.value", int64(set.Value), 1, math.MaxInt32-1)
	}
	if given != 1 {
		c.add(path, fmt.Sprintf("%d fields", given), "want exactly one of addCommunity, prependASPath and setPriority")
	}
}

func (c *checker) community(path, text string) {
	padded := slices.ContainsFunc(strings.Split(text, ":"), func(part string) bool { return len(part) > 1 && part[0] == '0' })
	if !isCommunity(text) || padded {
		c.add(path, text, "want AA:NN with parts up to 65535, or AA:NN:MM with parts up to 4294967295, without zeros in front")
	}
}

// isInterfacePattern says whether text is the name of an interface, in which * may stand for any text.
func isInterfacePattern(text string) bool {
	return text != "" && len(text) <= 15 && hasOnly(text, "_.*-")
}
