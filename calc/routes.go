package calc

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// space is the address pools, and the blocks of this node.
type space struct {
	pools    map[netip.Prefix]Pool
	blocks   []netip.Prefix // in the order of their objects; each lies in a pool without encapsulation
	problems []Problem
}

// readSpace reads the pools, and the blocks of a node. Of two pools with one CIDR the first by name counts.
func readSpace(node string, o objects) space {
	s := space{pools: map[netip.Prefix]Pool{}}
	names := map[netip.Prefix]api.Key{}
	pools, keys := valid[api.IPPool](o, api.KindIPPool)
	for i, p := range pools {
		pool, err := readPool(p.Spec)
		if err != nil {
			s.note(keys[i], "%v: correct it; until then the pool is ignored", err)
			continue
		}
		if _, yes := s.pools[pool.CIDR]; yes {
			s.note(keys[i], "another pool has %v already, so this one is ignored: remove one of them", pool.CIDR)
			continue
		}
		s.pools[pool.CIDR], names[pool.CIDR] = pool, keys[i]
		if pool.Encap != "" {
			s.note(keys[i], "%s is not supported yet, so its addresses are neither announced nor routed between nodes: "+
				"set ipipMode and vxlanMode to Never", pool.Encap)
		}
	}
	for cidr, key := range names {
		if around, yes := enclosing(cidr, names); yes {
			s.note(key, "lies within the pool %v of %v, so addresses in both belong to this pool: remove one of them", around, names[around])
		}
	}
	s.ownBlocks(node, o)
	return s
}

// enclosing finds the smallest network in a map that contains another one. Of two networks that overlap, one contains the other.
func enclosing[V any](p netip.Prefix, all map[netip.Prefix]V) (around netip.Prefix, found bool) {
	for bits := p.Bits() - 1; bits >= 0 && !found; bits-- {
		around = netip.PrefixFrom(p.Addr(), bits).Masked()
		_, found = all[around]
	}
	return around, found
}

func (s *space) note(about api.Key, format string, args ...any) {
	s.problems = append(s.problems, Problem{Object: about, Text: fmt.Sprintf(format, args...)})
}

// readPool reads one pool. Without a block size, a block has 64 addresses.
func readPool(spec api.IPPoolSpec) (Pool, error) {
	cidr, err := api.ParseNet(spec.CIDR)
	if err != nil {
		return Pool{}, fmt.Errorf("cidr: %w", err)
	}
	p := Pool{
		CIDR: cidr, BlockSize: spec.BlockSize, NATOutgoing: spec.NATOutgoing,
		NoExport: spec.DisableBGPExport, Disabled: spec.Disabled,
	}
	if p.BlockSize == 0 {
		p.BlockSize = cidr.Addr().BitLen() - 6
	}
	encapsulates := func(mode string) bool { return mode != "" && mode != "Never" }
	switch {
	case encapsulates(spec.IPIPMode):
		p.Encap = "IPIP"
	case encapsulates(spec.VXLANMode):
		p.Encap = "VXLAN"
	}
	return p, nil
}

// ownBlocks finds the blocks of this node: the block says so, and an affinity confirms it.
func (s *space) ownBlocks(node string, o objects) {
	blocks, keys := valid[api.IPAMBlock](o, api.KindIPAMBlock)
	for i, b := range blocks {
		if !ownedBy(node, b) || !confirmed(node, keys[i].Name, o) {
			continue
		}
		cidr, err := api.ParseNet(b.CIDR)
		if err != nil {
			s.note(keys[i], "cidr: %v: correct it; until then the block is ignored", err)
			continue
		}
		if pool, within := s.poolOf(cidr); within && pool.Encap == "" {
			s.blocks = append(s.blocks, cidr)
		}
	}
}

func ownedBy(node string, b *api.IPAMBlock) bool {
	return b.Affinity != nil && *b.Affinity == "host:"+node && !b.Deleted
}

func confirmed(node, block string, o objects) bool {
	u := o[api.KindBlockAffinity][api.Key{Kind: api.KindBlockAffinity, Namespace: node, Name: block}]
	a, ok := u.Object.(*api.BlockAffinity)
	return ok && u.Invalid == "" && a.State == "confirmed" && !a.Deleted
}

// poolOf finds the smallest pool that contains a prefix.
func (s *space) poolOf(p netip.Prefix) (best Pool, found bool) {
	for cidr, pool := range s.pools {
		if cidr.Bits() <= p.Bits() && cidr.Contains(p.Addr()) && (!found || cidr.Bits() > best.CIDR.Bits()) {
			best, found = pool, true
		}
	}
	return best, found
}

// exports reports whether a prefix lies in a pool that is announced.
func (s *space) exports(p netip.Prefix) bool {
	pool, within := s.poolOf(p)
	return within && !pool.Disabled && !pool.NoExport && pool.Encap == ""
}

// owns reports whether a prefix is a block of this node.
func (s *space) owns(p netip.Prefix) bool { return slices.Contains(s.blocks, p) }

// borrowed reports whether an address of a workload of this node is announced by itself: it lies in a pool that is announced, and in no
// block of the node.
func (s *space) borrowed(a netip.Addr) bool {
	inside := func(b netip.Prefix) bool { return b.Contains(a) }
	return s.exports(host(a)) && !slices.ContainsFunc(s.blocks, inside)
}

// ready is false when the datastore asks agents to leave everything as it is.
func ready(o objects) bool {
	info := named[api.ClusterInformation](o, api.KindClusterInformation, "default")
	return info == nil || !info.Locked()
}
