package gate

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sets returns the two sets of the table: names of workload interfaces, and indexes of those that are ready.
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
		elements = append(elements, nftables.SetElement{Key: native(uint32(index))})
	}
	return elements
}

// padded returns an interface's name as the kernel compares it: IFNAMSIZ bytes.
func padded(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// chain is a chain of the table and its rules, in order.
type chain struct {
	nftables.Chain
	rules [][]expr.Any
}

func newChain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *chain {
	accept := nftables.ChainPolicyAccept
	return &chain{Chain: nftables.Chain{Name: name, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept}}
}

func (c *chain) add(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

// chains returns the chains that enforce the rules, in a table of a family.
func (r Rules) chains(of nftables.TableFamily) []*chain {
	if of == nftables.TableFamilyBridge {
		return r.portChains()
	}
	names, ready := sets(table(of))
	from := newChain("from_workloads", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	to := newChain("to_workloads", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, nftables.ChainPriorityRaw)
	if r.Gateway.IsValid() {
		to.add(name(expr.MetaKeyOIFNAME, padded("lo")), address(destination, netip.PrefixFrom(r.Gateway, r.Gateway.BitLen())), drop())
	}
	for _, prefix := range r.Prefixes {
		from.add(name(expr.MetaKeyIIFNAME, []byte(prefix)), unmarked(r.Mark), drop())
		to.add(name(expr.MetaKeyOIFNAME, []byte(prefix)), lookup(expr.MetaKeyOIF, ready, true), drop())
	}
	from.add(lookup(expr.MetaKeyIIFNAME, names, false), unmarked(r.Mark), drop())
	to.add(lookup(expr.MetaKeyOIFNAME, names, false), lookup(expr.MetaKeyOIF, ready, true), drop())
	chains := append([]*chain{from, to}, r.hostMark()...)
	if r.ToHostMark != 0 {
		chains = append(chains, r.toHost(names)...)
	}
	if r.Forward {
		chains = append(chains, r.forwardChains(ready)...)
	}
	if len(r.NAT) == 0 {
		return chains // without a NAT chain, the kernel tracks no connections for felix
	}
	outgoing := newChain("outgoing", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	for _, pool := range r.Pools {
		outgoing.add(address(destination, pool), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	}
	for _, pool := range r.NAT {
		outgoing.add(address(source, pool), []expr.Any{&expr.Masq{}})
	}
	return append(chains, outgoing)
}

// toHost drops packets from a workload that arrive at this host but were not judged as packets for it: address translation, or a
// route that depends on a mark, has led them here. ToHostMark tells them apart. It is read first, because setups that route by
// the marks of connections overwrite the mark of every packet that comes in. From there on, the packet's priority carries the
// answer: nothing else uses it before a packet leaves.
func (r Rules) toHost(names *nftables.Set) []*chain {
	noted := newChain("for_host", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(*nftables.ChainPriorityRaw+1))
	noted.add(compare(expr.MetaKeyPRIORITY, expr.CmpOpEq, priorityForHost), setPriority(0))
	noted.add(allMarked(r.ToHostMark), setPriority(priorityForHost))
	for _, bridge := range r.Bridges {
		noted.add(name(expr.MetaKeyIIFNAME, padded(bridge)), compareMark(r.Mark|r.ToHostMark, expr.CmpOpEq, r.Mark), setPriority(priorityNotForHost))
	}
	c := newChain(toHostChain, nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFirst)
	for _, prefix := range r.Prefixes {
		c.add(name(expr.MetaKeyIIFNAME, []byte(prefix)), compare(expr.MetaKeyPRIORITY, expr.CmpOpNeq, priorityForHost), drop())
	}
	c.add(lookup(expr.MetaKeyIIFNAME, names, false), compare(expr.MetaKeyPRIORITY, expr.CmpOpNeq, priorityForHost), drop())
	for _, bridge := range r.Bridges {
		c.add(name(expr.MetaKeyIIFNAME, padded(bridge)), compare(expr.MetaKeyPRIORITY, expr.CmpOpEq, priorityNotForHost), drop())
	}
	return []*chain{noted, c}
}

// Priorities of packets that were judged as for this host, and of those that came by a bridge and were not. As classes of traffic
// control they are hardly ever in use.
const (
	priorityForHost    = 0x4d610001
	priorityNotForHost = 0x4d610002
)

// forwardChains returns a chain before and a chain behind those of other firewalls. The first marks packets to workloads, which are
// judged when they leave. It also marks packets from workloads again, because other programs may have overwritten the mark. Both
// chains count marked packets: other firewalls dropped the difference.
func (r Rules) forwardChains(ready *nftables.Set) []*chain {
	judged := newChain(judgedChain, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFirst)
	passed := newChain(passedChain, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityLast)
	judged.add(lookup(expr.MetaKeyIIF, ready, false), setMark(^uint32(0), r.Mark))
	judged.add(lookup(expr.MetaKeyOIF, ready, false), setMark(^uint32(0), r.Mark))
	judged.add(allMarked(r.Mark), []expr.Any{&expr.Counter{}})
	passed.add(allMarked(r.Mark), []expr.Any{&expr.Counter{}})
	return []*chain{judged, passed}
}

const (
	judgedChain = "judged"
	passedChain = "passed"
	toHostChain = "to_host"
)

// build adds the sets, chains and rules.
func build(conn *nftables.Conn, t *nftables.Table, rules Rules) error {
	names, ready := sets(t)
	if err := conn.AddSet(names, nameElements(rules.Names)); err != nil {
		return err
	}
	if err := conn.AddSet(ready, indexElements(rules.Ready)); err != nil {
		return err
	}
	for _, c := range rules.chains(t.Family) {
		c.Table = t
		added := conn.AddChain(&c.Chain)
		for _, exprs := range c.rules {
			conn.AddRule(&nftables.Rule{Table: t, Chain: added, Exprs: exprs})
		}
	}
	return nil
}

// hostMark marks packets that this host sends without a socket. Packets of a process have a socket and keep their mark, because
// other rules may compare the whole mark. Forwarded packets over IPv6 lose the bits, wherever they got them: the kernel may
// forget the interface from which they came. Both chains come last at their hooks, after all rules that set marks. Packets to a
// bridge with workloads are marked in any case: a packet that the bridge floods is copied, and the copies have no socket.
func (r Rules) hostMark() []*chain {
	mark := r.HostMark
	if mark == 0 {
		return nil
	}
	from := newChain("from_host", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityLast)
	for _, bridge := range r.Bridges {
		from.add(name(expr.MetaKeyOIFNAME, padded(bridge)), setMark(^uint32(0), mark))
	}
	from.add(ofProcess(), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	from.add(setMark(^uint32(0), mark))
	forwarded := newChain("forwarded", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityLast)
	forwarded.add(family(unix.NFPROTO_IPV6), marked(mark), setMark(^mark, 0))
	return []*chain{from, forwarded}
}

func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// name matches an interface's name: the whole name if begins is padded, otherwise its beginning.
func name(key expr.MetaKey, begins []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: begins},
	}
}

func lookup(key expr.MetaKey, set *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, Invert: invert},
	}
}

// unmarked matches packets that lack one of the bits.
func unmarked(mark uint32) []expr.Any {
	return compareMark(mark, expr.CmpOpNeq, mark)
}

// marked matches packets that have one of the bits.
func marked(mark uint32) []expr.Any {
	return compareMark(mark, expr.CmpOpNeq, 0)
}

// allMarked matches packets that have all of the bits.
func allMarked(mark uint32) []expr.Any {
	return compareMark(mark, expr.CmpOpEq, mark)
}

func compareMark(mask uint32, op expr.CmpOp, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: op, Register: 1, Data: native(bits)},
	}
}

func compare(key expr.MetaKey, op expr.CmpOp, value uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: native(value)}}
}

func setPriority(value uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: native(value)},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1},
	}
}

// setMark keeps the bits of the mark that are in keep and sets those in set.
func setMark(keep, set uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(keep &^ set), Xor: native(set)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// ofProcess matches packets of a socket that a process has open: such a socket has a user, whose number is at least 0.
func ofProcess() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: native(0)},
	}
}

func family(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func native(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

type side bool

const (
	source      side = false
	destination side = true
)

// address matches packets of the prefix's family whose source or destination is in the prefix.
func address(of side, prefix netip.Prefix) []expr.Any {
	prefix = prefix.Masked()
	proto, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if prefix.Addr().Is6() {
		proto, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	if of == destination {
		offset += length
	}
	mask := make([]byte, length)
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(family(proto), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix.Addr().AsSlice()},
	}...)
}
