package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/dataplane/table"
)

// stepped calls the Driver's step before each write of the target that it wraps.
type stepped[K comparable, V any] struct {
	d      *Driver
	what   string
	target table.Target[K, V]
}

func (s stepped[K, V]) Put(k K, v V) error {
	if err := s.d.step(fmt.Sprintf("put %s %v", s.what, k)); err != nil {
		return err
	}
	return s.target.Put(k, v)
}

func (s stepped[K, V]) Delete(k K) error {
	if err := s.d.step(fmt.Sprintf("delete %s %v", s.what, k)); err != nil {
		return err
	}
	return s.target.Delete(k)
}

// PutAll and DeleteAll hand over together the entries whose step succeeded, if the target can write them together.
func (s stepped[K, V]) PutAll(keys []K, values []V) []error {
	batches, can := s.target.(table.Batches[K, V])
	return s.all("put", keys, func(i int) error { return s.target.Put(keys[i], values[i]) }, can, func(at []int) []error {
		return batches.PutAll(chosen(keys, at), chosen(values, at))
	})
}

func (s stepped[K, V]) DeleteAll(keys []K) []error {
	batches, can := s.target.(table.Batches[K, V])
	return s.all("delete", keys, func(i int) error { return s.target.Delete(keys[i]) }, can, func(at []int) []error {
		return batches.DeleteAll(chosen(keys, at))
	})
}

// all makes the step of each key, and then the writes: together if that is possible, otherwise each one after its step.
func (s stepped[K, V]) all(verb string, keys []K, one func(i int) error, together bool, write func(at []int) []error) []error {
	errs := make([]error, len(keys))
	var at []int // the keys that are written together
	for i, k := range keys {
		if errs[i] = s.d.step(fmt.Sprintf("%s %s %v", verb, s.what, k)); errs[i] != nil {
			continue
		}
		if together {
			at = append(at, i)
		} else {
			errs[i] = one(i)
		}
	}
	if len(at) > 0 {
		for n, err := range write(at) {
			errs[at[n]] = err
		}
	}
	return errs
}

func chosen[T any](all []T, at []int) []T {
	if len(at) == len(all) {
		return all
	}
	some := make([]T, len(at))
	for n, i := range at {
		some[n] = all[i]
	}
	return some
}

func (s stepped[K, V]) List() (map[K]V, error) { return s.target.List() }

// localTarget is the table of the addresses of this host. They decide the stage of a packet, so a change starts a new epoch.
type localTarget struct{ d *Driver }

func (t localTarget) Put(a netip.Addr, v uint8) error {
	t.d.epochPending = true
	return t.d.shared.Locals.Put(bpf.Address(a), v)
}

func (t localTarget) Delete(a netip.Addr) error {
	t.d.epochPending = true
	return t.d.shared.Locals.Delete(bpf.Address(a))
}

func (t localTarget) List() (map[netip.Addr]uint8, error) {
	held := map[netip.Addr]uint8{}
	entries, failed := t.d.shared.Locals.All()
	for key, v := range entries {
		held[bpf.AddrOf(key)] = v
	}
	return held, failed()
}

// counterTarget is the table of the rules whose hits are counted.
type counterTarget struct{ d *Driver }

func (t counterTarget) Put(rule uint64, _ struct{}) error { return t.d.shared.CreateRule(rule) }
func (t counterTarget) Delete(rule uint64) error          { return t.d.shared.DeleteRule(rule) }

func (t counterTarget) List() (map[uint64]struct{}, error) {
	hits, err := t.d.shared.AllRuleHits()
	held := map[uint64]struct{}{}
	for rule := range hits {
		held[rule] = struct{}{}
	}
	return held, err
}

// bpfTarget is one table of a generation. A change of it starts a new epoch.
type bpfTarget[K comparable, V any] struct {
	d     *Driver
	table bpf.Table[K, V]
}

func (t bpfTarget[K, V]) Put(k K, v V) error {
	t.d.epochPending = true
	return t.table.Put(k, v)
}

func (t bpfTarget[K, V]) Delete(k K) error {
	t.d.epochPending = true
	return t.table.Delete(k)
}

func (t bpfTarget[K, V]) List() (map[K]V, error) {
	held := map[K]V{}
	entries, failed := t.table.All()
	for k, v := range entries {
		held[k] = v
	}
	return held, failed()
}
