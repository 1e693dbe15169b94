package gate

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// TableName is the table's name, in the family inet.
const TableName = "margay"

// Rules has everything that the table depends on.
type Rules struct {
	Mark       uint32         // bits that our program sets on packets that it let pass
	HostMark   uint32         // bits that the gate sets on packets that this host sends without a socket
	ToHostMark uint32         // bits that our program sets on packets that workloads may send to this host; 0: all packets may pass
	Prefixes   []string       // interfaces with such a beginning of their name are workloads'
	Names      []string       // so are the interfaces with these names
	Ready      []int          // workload interfaces, by index, on which our program is attached
	NAT        []netip.Prefix // pools with natOutgoing
	Pools      []netip.Prefix // all pools
	Gateway    netip.Addr     // stands for the host on workload interfaces; packets to it are dropped
	Forward    bool           // another firewall may drop forwarded packets that policy allows
	Ports      bool           // also make the table of the family bridge, for workloads behind ports of bridges
	Bridges    []string       // interfaces by which packets from such ports come to this host: the bridges, and VLANs on them
}

// normal returns the same rules with sorted lists, without duplicates and without names that no interface can have.
func (r Rules) normal() Rules {
	sorted := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	r.Prefixes, r.Names = sorted(r.Prefixes), sorted(r.Names)
	r.Prefixes = slices.DeleteFunc(r.Prefixes, func(p string) bool { return p == "" || len(p) >= unix.IFNAMSIZ })
	r.Names = slices.DeleteFunc(r.Names, func(n string) bool { return n == "" || len(n) >= unix.IFNAMSIZ })
	r.Bridges = slices.DeleteFunc(sorted(r.Bridges), func(n string) bool { return n == "" || len(n) >= unix.IFNAMSIZ })
	r.Ready = slices.Compact(slices.Sorted(slices.Values(r.Ready)))
	r.NAT, r.Pools = sortedPrefixes(r.NAT), sortedPrefixes(r.Pools)
	return r
}

func sortedPrefixes(list []netip.Prefix) []netip.Prefix {
	return slices.Compact(slices.SortedFunc(slices.Values(list), func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	}))
}

// fixed says whether everything but the elements of sets is equal.
func (r Rules) fixed(o Rules) bool {
	return r.Mark == o.Mark && r.HostMark == o.HostMark && r.ToHostMark == o.ToHostMark && r.Forward == o.Forward && r.Gateway == o.Gateway &&
		r.Ports == o.Ports && slices.Equal(r.Bridges, o.Bridges) && slices.Equal(r.Prefixes, o.Prefixes) && slices.Equal(r.NAT, o.NAT) && slices.Equal(r.Pools, o.Pools)
}

func (r Rules) equal(o Rules) bool {
	return r.fixed(o) && slices.Equal(r.Names, o.Names) && slices.Equal(r.Ready, o.Ready)
}

// Gate keeps the table of the calling thread's network namespace.
type Gate struct {
	inForce *Rules // nil: unknown
}

// Apply brings the rules into force: wholly or, after an error, not at all.
func (g *Gate) Apply(rules Rules) error {
	if rules.Mark == 0 {
		return fmt.Errorf("nftables table %s: no bits of the packet mark are set: every packet would count as judged", TableName)
	}
	rules = rules.normal()
	if g.inForce != nil && g.inForce.equal(rules) {
		return nil
	}
	if g.inForce != nil && g.inForce.fixed(rules) && changeElements(*g.inForce, rules) == nil {
		g.inForce = &rules
		return nil
	}
	// If the elements could not be changed, another program may have removed the table: replace it too.
	g.inForce = nil
	if err := replace(rules); err != nil {
		return err
	}
	g.inForce = &rules
	return nil
}

// Check reads the table and says how it differs from the rules in force. It is empty if there is no difference; after one, the
// next Apply makes the table anew.
func (g *Gate) Check() (difference string, err error) {
	if g.inForce == nil {
		return "", nil
	}
	for _, family := range g.inForce.families() {
		held, err := read(family)
		if err != nil {
			return "", explain(err)
		}
		if difference = held.difference(*g.inForce); difference != "" {
			if family == nftables.TableFamilyBridge {
				difference = "family bridge: " + difference
			}
			break
		}
	}
	if difference != "" {
		g.inForce = nil
	}
	return difference, nil
}

// InForce returns the rules in force; nil: unknown.
func (g *Gate) InForce() *Rules { return g.inForce }

// Exists says whether the table exists, made by this process or another.
func Exists() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, explain(err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }), nil
}

// Remove removes the tables. Interfaces that they alone closed are open then.
func Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return explain(err)
	}
	conn.DelTable(conn.AddTable(table(nftables.TableFamilyINet))) // added first: the deletion of a missing table fails
	if err := removePorts(conn); err != nil {
		return explain(err)
	}
	return explain(conn.Flush())
}

// removePorts removes the table of the family bridge, if there is one: a kernel may lack the family.
func removePorts(conn *nftables.Conn) error {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err == nil && slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }) {
		conn.DelTable(table(nftables.TableFamilyBridge))
	}
	return err
}

func table(family nftables.TableFamily) *nftables.Table {
	return &nftables.Table{Name: TableName, Family: family}
}

// families returns the families in which the rules need a table.
func (r Rules) families() []nftables.TableFamily {
	if r.Ports {
		return []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge}
	}
	return []nftables.TableFamily{nftables.TableFamilyINet}
}

// replace makes the whole tables in one transaction, in place of former ones.
func replace(rules Rules) error {
	conn, err := nftables.New()
	if err != nil {
		return explain(err)
	}
	if !rules.Ports {
		if err := removePorts(conn); err != nil {
			return explain(err)
		}
	}
	for _, family := range rules.families() {
		conn.DelTable(conn.AddTable(table(family)))
		if err := build(conn, conn.AddTable(table(family)), rules); err != nil {
			return explain(err)
		}
	}
	return explain(conn.Flush())
}

// changeElements changes only the elements of the sets.
func changeElements(from, to Rules) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range to.families() {
		names, ready := sets(table(family))
		err = errors.Join(err,
			conn.SetDeleteElements(names, nameElements(without(from.Names, to.Names))),
			conn.SetAddElements(names, nameElements(without(to.Names, from.Names))),
			conn.SetDeleteElements(ready, indexElements(without(from.Ready, to.Ready))),
			conn.SetAddElements(ready, indexElements(without(to.Ready, from.Ready))),
		)
	}
	if err != nil {
		return err
	}
	return conn.Flush()
}

// without returns the elements of a that are not in b.
func without[T comparable](a, b []T) []T {
	skip := map[T]struct{}{}
	for _, e := range b {
		skip[e] = struct{}{}
	}
	rest := map[T]struct{}{}
	for _, e := range a {
		if _, there := skip[e]; !there {
			rest[e] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(rest))
}

// IsUnsupported says whether the kernel lacks something that the rules need.
func IsUnsupported(err error) bool {
	for _, lacks := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, lacks) {
			return true
		}
	}
	return false
}

func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("nftables table %s: not permitted: run as root, or with CAP_NET_ADMIN: %w", TableName, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("nftables table %s: the kernel cannot create it: load the modules nf_tables and nft_masq, or build the kernel with them; until then "+
			"new interfaces are open until their program is attached, and natOutgoing does not work: %w", TableName, err)
	}
	return fmt.Errorf("nftables table %s: %w", TableName, err)
}

// Ready returns the interfaces in the set ready of the present table, which another process may have made.
func Ready() ([]int, error) {
	there, err := Exists()
	if err != nil || !there {
		return nil, err
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, explain(err)
	}
	_, ready := sets(table(nftables.TableFamilyINet))
	elements, err := conn.GetSetElements(ready)
	if err != nil {
		return nil, explain(err)
	}
	var indexes []int
	for _, e := range elements {
		if len(e.Key) == 4 {
			indexes = append(indexes, int(binaryutil.NativeEndian.Uint32(e.Key)))
		}
	}
	return indexes, nil
}
