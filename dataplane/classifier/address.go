package classifier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/margay-project/margay/calc"
)

// allV4 always has an entry: a shorter IPv6 prefix would otherwise contain the mapped IPv4 addresses.
var allV4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// entry is an address or prefix with its class. Entries are in the tables, or about to be.
type entry struct {
	own     []*atom // atoms that it was added to itself, by id; set by join and leave
	class   *class  // of its own atoms and those of the prefixes around it; set by compute, with a reference; nil: it needs no entry
	written *class  // the class that the tables have for it, with a reference; nil: they have no entry
	pass    uint32  // addresses.pass of the last compute
	queued  bool    // it is in addresses.queue
}

// queuedEntry is an entry that must be computed, or could not be written.
type queuedEntry struct {
	prefix netip.Prefix
	entry  *entry
}

// addresses keeps the tables of hosts and nets. An entry inherits the atoms of the prefixes around it; that is computed
// here, so that the program needs one lookup. The cost of a change is the number of entries that get another class or
// are inside a prefix that it adds or removes.
type addresses struct {
	classes
	tables Tables
	index  bart.Table[*entry] // entries, also those that wait to be deleted
	queue  []queuedEntry      // to be computed or written
	sets   map[calc.SetID]*set
	lists  map[string]*set // nets that rules list, by set.list
	pass   uint32          // number of the update
	hosts  room
	nets   room
	buffer []*atom // of compute
	failed []*atom // set by update: atoms whose members are not all in the tables
}

// room counts the entries of one table.
type room struct {
	what        string
	used, limit int
}

func newAddresses(vs *vectors, t Tables, s Sizes) *addresses {
	a := &addresses{
		classes: newClasses(vs, 2),
		tables:  t,
		sets:    map[calc.SetID]*set{},
		lists:   map[string]*set{},
		hosts:   room{what: "hosts", limit: s.Hosts},
		nets:    room{what: "nets", limit: s.Nets},
	}
	e := &entry{}
	a.index.Insert(allV4, e)
	a.touch(allV4, e)
	return a
}

// clean clears the host bits of a prefix. It is false for a prefix inside ::ffff:0:0/96: such packets are dropped, so
// it contains no packet's address.
func clean(p netip.Prefix) (netip.Prefix, bool) {
	p = p.Masked()
	return p, p.IsValid() && !p.Addr().Is4In6()
}

// join adds a prefix to an atom.
func (a *addresses) join(p netip.Prefix, x *atom) {
	e, found := a.index.Get(p)
	if !found {
		e = &entry{}
		a.index.Insert(p, e)
	}
	at, found := slices.BinarySearchFunc(e.own, x, byID)
	if !found {
		e.own = slices.Insert(e.own, at, x)
	}
	a.touch(p, e)
}

// leave removes a prefix from an atom.
func (a *addresses) leave(p netip.Prefix, x *atom) {
	e, found := a.index.Get(p)
	if !found {
		return
	}
	e.own = without(e.own, x)
	a.touch(p, e)
}

// touch queues an entry for the next update.
func (a *addresses) touch(p netip.Prefix, e *entry) {
	if !e.queued {
		e.queued = true
		a.queue = append(a.queue, queuedEntry{p, e})
	}
}

// update computes the classes of queued entries, fills the new classes, and moves addresses to them. Entries that fail
// stay queued; failed has their atoms.
func (a *addresses) update(round uint64) error {
	if len(a.queue) == 0 {
		a.failed = nil
		return nil
	}
	w := a.prepare(round)
	w.write()
	a.failed = w.failedAtoms
	return w.faults.err("addresses")
}

// prepare finds the new class of each entry that may have changed: queued entries, and those inside a queued prefix.
func (a *addresses) prepare(round uint64) *writing {
	queue := a.queue
	a.queue = nil
	a.pass++
	w := &writing{addresses: a, round: round, puts: make([]queuedEntry, 0, len(queue))}
	slices.SortFunc(queue, func(x, y queuedEntry) int { return cmp.Compare(x.prefix.Bits(), y.prefix.Bits()) })
	for _, q := range queue {
		q.entry.queued = false
	}
	for _, q := range queue {
		switch {
		case q.entry.pass == a.pass:
		case q.prefix.IsSingleIP():
			w.compute(q, a.inherited(q.prefix))
		default:
			w.walk(q.prefix)
		}
	}
	for _, p := range w.neverWritten {
		a.index.Delete(p)
	}
	return w
}

// inherited returns the atoms that a prefix has because a shorter one contains it.
func (a *addresses) inherited(p netip.Prefix) []*atom {
	for super, e := range a.index.Supernets(p) {
		if super != p && e.class != nil && a.wanted(super, e) {
			return e.class.atoms
		}
	}
	return nil
}

// wanted says whether an entry should be in the tables.
func (a *addresses) wanted(p netip.Prefix, e *entry) bool { return len(e.own) > 0 || p == allV4 }

// writing is one update.
type writing struct {
	*addresses
	round        uint64
	puts         []queuedEntry
	deletes      []queuedEntry
	neverWritten []netip.Prefix // entries that are not wanted and that the tables never had
	faults       errorList
	failedAtoms  []*atom // becomes addresses.failed

	// failed has the prefixes that failed, mapped: IPv4 and IPv6 are one address space in the table. So if the entry of allV4
	// fails, a shorter IPv6 prefix such as ::/0 is around it and waits. Else IPv4 addresses would get the class of that prefix.
	failed bart.Lite
}

// walk computes a prefix and all entries inside it.
func (w *writing) walk(net netip.Prefix) {
	type level struct {
		prefix netip.Prefix
		atoms  []*atom
	}
	above := []level{{atoms: w.inherited(net)}}
	for p, e := range w.index.Subnets(net) {
		for len(above) > 1 && !above[len(above)-1].prefix.Contains(p.Addr()) {
			above = above[:len(above)-1]
		}
		atoms := w.compute(queuedEntry{p, e}, above[len(above)-1].atoms)
		if w.wanted(p, e) && !p.IsSingleIP() {
			above = append(above, level{p, atoms})
		}
	}
}

// compute gives an entry its class and queues it for write. It returns the atoms that the class should have, also if
// there is no room for the class.
func (w *writing) compute(q queuedEntry, inherited []*atom) []*atom {
	e := q.entry
	e.pass = w.pass
	if !w.wanted(q.prefix, e) {
		w.release(e.class, w.round)
		e.class = nil
		if e.written == nil {
			w.neverWritten = append(w.neverWritten, q.prefix)
			return nil
		}
		w.deletes = append(w.deletes, q)
		return nil
	}
	w.buffer = union(w.buffer[:0], e.own, inherited)
	if e.class == nil || !slices.Equal(e.class.atoms, w.buffer) {
		c, err := w.get(w.buffer)
		if err != nil {
			atoms := slices.Clone(w.buffer)
			w.fail(q, atoms, fmt.Errorf("class of %v: %w", q.prefix, err))
			return atoms
		}
		w.release(e.class, w.round)
		e.class = c
	}
	if e.class != e.written {
		w.puts = append(w.puts, q)
	}
	return e.class.atoms
}

// fail leaves an entry as it is in the tables; the next update tries again. The atoms that it should gain or lose count as
// failed.
func (w *writing) fail(q queuedEntry, atoms []*atom, err error) {
	w.faults.add(err)
	w.failed.Insert(mapped(q.prefix))
	w.touch(q.prefix, q.entry)
	var have []*atom
	if q.entry.written != nil {
		have = q.entry.written.atoms
	}
	for _, a := range atoms {
		if !slices.Contains(have, a) {
			w.failedAtoms = append(w.failedAtoms, a)
		}
	}
	for _, a := range have {
		if !slices.Contains(atoms, a) {
			w.failedAtoms = append(w.failedAtoms, a)
		}
	}
}

// write brings the tables up to date so that at each moment every address has its old class or its new one. Longer
// prefixes are put first. They are deleted last: their addresses then fall back to the prefix around them, which has
// its new class by then. An entry around or inside one that failed waits with it.
func (w *writing) write() {
	slices.SortStableFunc(w.puts, func(x, y queuedEntry) int { return cmp.Compare(y.length(), x.length()) })
	slices.SortStableFunc(w.deletes, func(x, y queuedEntry) int { return cmp.Compare(x.length(), y.length()) })
	for _, q := range w.puts {
		if !q.prefix.IsSingleIP() && w.failed.OverlapsPrefix(mapped(q.prefix)) {
			w.fail(q, q.entry.class.atoms, nil)
		} else if err := w.put(q); err != nil {
			w.fail(q, q.entry.class.atoms, err)
		}
	}
	for _, q := range w.deletes {
		if w.failed.OverlapsPrefix(mapped(q.prefix)) {
			w.fail(q, nil, nil)
		} else if err := w.erase(q); err != nil {
			w.fail(q, nil, err)
		}
	}
}

// length is the length of the mapped prefix.
func (q queuedEntry) length() int {
	if q.prefix.Addr().Is4() {
		return q.prefix.Bits() + 96
	}
	return q.prefix.Bits()
}

// put writes the class of an entry.
func (w *writing) put(q queuedEntry) error {
	e, c := q.entry, q.entry.class
	table, write := &w.nets, func() error { return w.tables.PutNet(q.prefix, c.vectors[0], c.vectors[1]) }
	if q.prefix.IsSingleIP() {
		table, write = &w.hosts, func() error { return w.tables.PutHost(q.prefix.Addr(), c.vectors[0], c.vectors[1]) }
	}
	if e.written == nil && table.used >= table.limit {
		return fmt.Errorf("%v: %w", q.prefix, &ErrFull{What: table.what, Size: table.limit})
	}
	if err := write(); err != nil {
		return fmt.Errorf("put %v: %w", q.prefix, err)
	}
	if e.written == nil {
		table.used++
	}
	w.release(e.written, w.round)
	e.written = c
	c.refs++
	c.published = true
	return nil
}

// erase deletes an entry.
func (w *writing) erase(q queuedEntry) error {
	table, err := &w.nets, error(nil)
	if q.prefix.IsSingleIP() {
		table, err = &w.hosts, w.tables.DeleteHost(q.prefix.Addr())
	} else {
		err = w.tables.DeleteNet(q.prefix)
	}
	if err != nil {
		return fmt.Errorf("delete %v: %w", q.prefix, err)
	}
	table.used--
	w.release(q.entry.written, w.round)
	q.entry.written = nil
	w.index.Delete(q.prefix)
	return nil
}
