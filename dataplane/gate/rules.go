package gate

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sets are the two sets of the table: names of workload interfaces, and indexes of those that are ready.
func sets(t *nftables.Table) (names, ready *nftables.Set) {
	names = &nftables.Set{Table: t, Name: "workloads", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	ready = &nftables.Set{Table: t, Name: "ready", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian}
	return names, ready
}

func nameElements(names []string) (elements []nftables.SetElement) {
	for _, name := range names {
		elements = append(elements, nftables.SetElement{Key: padded(name)})
	}
	return elements
}

func indexElements(indexes []int) (elements []nftables.SetElement) {
	for _, index := range indexes {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(index))})
	}
	return elements
}

// padded is an interface's name as the kernel compares it.
func padded(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// build adds the sets, chains and rules.
func build(conn *nftables.Conn, t *nftables.Table, rules Rules) error {
	names, ready := sets(t)
	if err := conn.AddSet(names, nameElements(rules.Names)); err != nil {
		return err
	}
	if err := conn.AddSet(ready, indexElements(rules.Ready)); err != nil {
		return err
	}
	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: all})
	}
	from := conn.AddChain(&nftables.Chain{
		Table: t, Name: "from_workloads", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	to := conn.AddChain(&nftables.Chain{
		Table: t, Name: "to_workloads", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRaw,
	})
	if rules.Gateway.IsValid() {
		add(to, name(expr.MetaKeyOIFNAME, padded("lo")), address(destination, netip.PrefixFrom(rules.Gateway, rules.Gateway.BitLen())), drop())
	}
	for _, prefix := range rules.Prefixes {
		add(from, name(expr.MetaKeyIIFNAME, []byte(prefix)), unmarked(rules.Mark), drop())
		add(to, name(expr.MetaKeyOIFNAME, []byte(prefix)), lookup(expr.MetaKeyOIF, ready, true), drop())
	}
	add(from, lookup(expr.MetaKeyIIFNAME, names, false), unmarked(rules.Mark), drop())
	add(to, lookup(expr.MetaKeyOIFNAME, names, false), lookup(expr.MetaKeyOIF, ready, true), drop())
	if len(rules.NAT) == 0 {
		return nil // and no connection tracking by the kernel on our account
	}
	outgoing := conn.AddChain(&nftables.Chain{
		Table: t, Name: "outgoing", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, pool := range rules.Pools {
		add(outgoing, address(destination, pool), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	}
	for _, pool := range rules.NAT {
		add(outgoing, address(source, pool), []expr.Any{&expr.Masq{}})
	}
	return nil
}

func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// name matches an interface's name: all of it when it is padded, else its beginning.
func name(key expr.MetaKey, begins []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: begins},
	}
}

func lookup(key expr.MetaKey, set *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: invert},
	}
}

// unmarked matches packets that lack one of the bits.
func unmarked(mark uint32) []expr.Any {
	bits := binaryutil.NativeEndian.PutUint32(mark)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: bits, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: bits},
	}
}

type side bool

const (
	source      side = false
	destination side = true
)

// address matches the source or destination of a packet of the prefix's family.
func address(of side, prefix netip.Prefix) []expr.Any {
	prefix = prefix.Masked()
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if prefix.Addr().Is6() {
		family, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	if of == destination {
		offset += length
	}
	mask := make([]byte, length)
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix.Addr().AsSlice()},
	}
}
