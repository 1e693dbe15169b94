package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// CreateRule makes the counter of a rule: the program counts only rules that have one. It may fail with ENOMEM and
// succeed some milliseconds later, when many counters are made in a row: the kernel refills its memory for them in the
// background.
func (s *Shared) CreateRule(id uint64) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the hits of a rule: %w", err)
	}
	err = s.maps["rule_hits"].Update(&id, make([]layout.Hits, cpus), ebpf.UpdateNoExist)
	if isFull(err) {
		return fmt.Errorf("count the hits of a rule: the table of counters is full at %d entries: %w",
			s.maps["rule_hits"].MaxEntries(), err)
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return explain("count the hits of a rule", err)
	}
	return nil
}

// DeleteRule forgets the hits of a rule.
func (s *Shared) DeleteRule(id uint64) error {
	if err := s.maps["rule_hits"].Delete(&id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget the hits of a rule: %w", err)
	}
	return nil
}

// RuleHits returns the packets and bytes that a rule has decided: first packets of connections, packets of connections
// that were judged again, and denied packets. It is zero for a rule without a counter.
func (s *Shared) RuleHits(id uint64) (layout.Hits, error) {
	var each []layout.Hits
	if err := s.maps["rule_hits"].Lookup(&id, &each); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return layout.Hits{}, fmt.Errorf("read the hits of a rule: %w", err)
	}
	return sum(each), nil
}

// AllRuleHits returns the hits of all rules that have a counter.
func (s *Shared) AllRuleHits() (map[uint64]layout.Hits, error) {
	out := map[uint64]layout.Hits{}
	var id uint64
	var each []layout.Hits
	entries := s.maps["rule_hits"].Iterate()
	for entries.Next(&id, &each) {
		out[id] = sum(each)
	}
	if err := entries.Err(); err != nil {
		return out, fmt.Errorf("read the hits of rules: %w", err)
	}
	return out, nil
}

// ReasonCounts returns packets and bytes by reason, since the counters were made.
func (s *Shared) ReasonCounts() (counts [Reasons]layout.Hits, err error) {
	for r := range uint32(Reasons) {
		var each []layout.Hits
		if err := s.maps["reasons"].Lookup(&r, &each); err != nil {
			return counts, fmt.Errorf("read the counts by reason: %w", err)
		}
		counts[r] = sum(each)
	}
	return counts, nil
}

// sum adds the counters of all processors.
func sum(each []layout.Hits) (total layout.Hits) {
	for _, h := range each {
		total.Packets += h.Packets
		total.Bytes += h.Bytes
	}
	return total
}
