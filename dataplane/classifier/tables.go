package classifier

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// Tables are the two maps from addresses to classes, written in the order of the calls. Addresses and prefixes are
// IPv4 or IPv6, never mapped.
// Each call replaces or removes one element in one piece. To delete what is not there is no error.
type Tables interface {
	PutHost(a netip.Addr, source, dest uint32) error
	DeleteHost(a netip.Addr) error
	PutNet(p netip.Prefix, source, dest uint32) error
	DeleteNet(p netip.Prefix) error
}

// Addresses answers which vectors an address has, as the program would find them.
type Addresses interface {
	Vectors(a netip.Addr) (source, dest uint32)
}

// AddressKey is an address in the program's form: 16 bytes, IPv4 mapped.
func AddressKey(a netip.Addr) [16]byte { return a.As16() }

// mapped is the prefix in the one address space of the program.
func mapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

// Image is Tables in ordinary memory, with the program's way to look up: the exact host, then the longest prefix of
// the mapped address.
type Image struct {
	hosts map[[16]byte]vectorPair
	nets  bart.Table[vectorPair] // of mapped prefixes
}

type vectorPair struct{ source, dest uint32 }

// NewImage returns empty tables.
func NewImage() *Image { return &Image{hosts: map[[16]byte]vectorPair{}} }

func (t *Image) PutHost(a netip.Addr, source, dest uint32) error {
	t.hosts[AddressKey(a)] = vectorPair{source, dest}
	return nil
}

func (t *Image) DeleteHost(a netip.Addr) error {
	delete(t.hosts, AddressKey(a))
	return nil
}

func (t *Image) PutNet(p netip.Prefix, source, dest uint32) error {
	t.nets.Insert(mapped(p), vectorPair{source, dest})
	return nil
}

func (t *Image) DeleteNet(p netip.Prefix) error {
	t.nets.Delete(mapped(p))
	return nil
}

// Vectors is the class of an address: of its host entry, else of the longest prefix that contains it, else none.
func (t *Image) Vectors(a netip.Addr) (source, dest uint32) {
	key := AddressKey(a)
	v, found := t.hosts[key]
	if !found {
		v, _ = t.nets.Lookup(netip.AddrFrom16(key))
	}
	return v.source, v.dest
}

// Size returns how many entries each table holds.
func (t *Image) Size() (hosts, nets int) { return len(t.hosts), t.nets.Size() }
