package classifier

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// Tables are the two maps from addresses to classes. Each call replaces or removes one element in one step; the calls
// take effect in their order. Addresses and prefixes are IPv4 or IPv6, never IPv4-mapped. It is no error to delete an
// element that is not there.
type Tables interface {
	PutHost(a netip.Addr, source, dest uint32) error
	DeleteHost(a netip.Addr) error
	PutNet(p netip.Prefix, source, dest uint32) error
	DeleteNet(p netip.Prefix) error
}

// Addresses answers which vectors an address has, by the search that the program makes; 0, 0 if it is in no entry.
type Addresses interface {
	Vectors(a netip.Addr) (source, dest uint32)
}

// AddressKey is an address in the program's form: 16 bytes, IPv4 as ::ffff:a.b.c.d.
func AddressKey(a netip.Addr) [16]byte { return a.As16() }

// mapped is a prefix in the one address space of the program.
func mapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

// Image is Tables in ordinary memory, with the search of the program: the exact host, then the longest prefix of the
// mapped address.
type Image struct {
	hosts map[[16]byte]vectorPair
	nets  bart.Table[vectorPair] // of mapped prefixes
}

// vectorPair are the numbers of a class's vectors: as a source, and as a destination.
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

// Vectors returns the class of an address.
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
