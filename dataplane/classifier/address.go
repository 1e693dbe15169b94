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

// entry is an address or prefix that is a member of something.
type entry struct {
	own     []*atom // of which it is a member itself, by id
	class   *class  // those and what contains it; nil: it needs no entry
	written *class  // as the tables have it; nil: not there
	pass    uint32  // in which it was last computed
	queued  bool
}

type queuedEntry struct {
	prefix netip.Prefix
	entry  *entry
}

// addresses keeps the tables of hosts and nets. What an entry inherits from the nets around it is computed here, so
// that the program needs one lookup; a change costs as much as the entries whose class it changes, and those inside a
// net that it adds or removes.
type addresses struct {
	classes
	tables Tables
	index  bart.Table[*entry]
	queue  []queuedEntry // to be computed, or not written yet
	sets   map[calc.SetID]*set
	lists  map[string]*set // of nets that rules name
	pass   uint32
	hosts  room
	nets   room
	buffer []*atom
	failed []*atom // by the last settle
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

// clean masks a prefix. An IPv6 prefix within the mapped addresses contains no packet's address.
func clean(p netip.Prefix) (netip.Prefix, bool) {
	p = p.Masked()
	return p, p.IsValid() && !p.Addr().Is4In6()
}

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

func (a *addresses) leave(p netip.Prefix, x *atom) {
	e, found := a.index.Get(p)
	if !found {
		return
	}
	e.own = without(e.own, x)
	a.touch(p, e)
}

func (a *addresses) touch(p netip.Prefix, e *entry) {
	if !e.queued {
		e.queued = true
		a.queue = append(a.queue, queuedEntry{p, e})
	}
}

// update computes the classes of what was touched, fills the new ones and moves addresses to them. What fails stays
// queued; a.failed names the atoms whose members are then not all in the tables.
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

// prepare finds the new class of every entry that may have changed.
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

// inherited is the atoms that contain a prefix because a shorter one does.
func (a *addresses) inherited(p netip.Prefix) []*atom {
	for super, e := range a.index.Supernets(p) {
		if super != p && e.class != nil && a.wanted(super, e) {
			return e.class.atoms
		}
	}
	return nil
}

func (a *addresses) wanted(p netip.Prefix, e *entry) bool { return len(e.own) > 0 || p == allV4 }

// writing is one pass over the entries that change.
type writing struct {
	*addresses
	round        uint64
	puts         []queuedEntry
	deletes      []queuedEntry
	neverWritten []netip.Prefix // entries that the tables never had
	faults       errorList
	failed       bart.Lite // mapped: without the entry of allV4 no shorter IPv6 prefix may be written
	failedAtoms  []*atom
}

// walk computes a net and everything inside it.
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

// compute gives an entry its class. It returns the atoms that the class should have.
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

// fail leaves an entry as it is in the tables, to be tried again.
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

// write brings the tables up to date so that at each moment every address has its old class or its new one: first
// what is inside, then what is around it; to delete, first what is around, because what is inside falls back to it.
// An entry around or inside one that failed waits with it.
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

// length orders the two families by their place in the mapped address space, hosts after every net.
func (q queuedEntry) length() int {
	if q.prefix.Addr().Is4() {
		return q.prefix.Bits() + 96
	}
	return q.prefix.Bits()
}

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
