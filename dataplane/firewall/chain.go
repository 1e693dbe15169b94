package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Chain is a chain of another program, at the hook of forwarded packets, that drops packets by default.
type Chain struct {
	Tool    string // iptables-nft, iptables-legacy, ip6tables-nft or ip6tables-legacy; empty for a chain of nftables
	Family  string // ip, ip6 or inet
	Table   string
	Name    string
	How     string // how it drops
	Accepts bool   // an earlier rule of it accepts packets with our mark
}

// String names the chain as its tool does.
func (c Chain) String() string {
	if c.Tool != "" {
		return fmt.Sprintf("%s table %s, chain %s (%s)", c.Tool, c.Table, c.Name, c.How)
	}
	return fmt.Sprintf("nftables table %s %s, chain %s (%s)", c.Family, c.Table, c.Name, c.How)
}

// Advice returns a command that makes the chain accept packets with these bits of the packet mark.
func (c Chain) Advice(mark uint32) string {
	if c.Tool != "" {
		return c.Tool + " " + strings.Join(append([]string{"-I"}, quoted(rule(mark))...), " ")
	}
	return fmt.Sprintf("nft insert rule %s %s %s meta mark and %#x == %#x accept", c.Family, c.Table, c.Name, mark, mark)
}

// Read returns the chains that drop forwarded packets by default.
func Read(mark uint32) ([]Chain, error) {
	chains, err := readNftables(mark)
	for i, c := range chains {
		if c.Tool != "" {
			t, e := find(c.Tool)
			chains[i].Accepts = e == nil && t.has(mark)
		}
	}
	legacy, e := readLegacy(mark)
	return slices.Concat(chains, legacy), errors.Join(err, e)
}

// Accept adds a rule to a chain of iptables that accepts packets with these bits of the packet mark.
func (c Chain) Accept(mark uint32) error {
	t, err := find(c.Tool)
	if err != nil {
		return err
	}
	return t.run(append([]string{"-I"}, rule(mark)...)...)
}

// Remove removes the rule of Accept from every chain of iptables.
func Remove(mark uint32) error {
	var errs []error
	for _, tool := range tools {
		if !tool.inUse() {
			continue
		}
		t, err := find(tool.name)
		if err != nil {
			continue // without the tool, the rule was never added
		}
		for range 100 {
			if !t.has(mark) {
				break
			}
			if err := t.run(append([]string{"-D"}, rule(mark)...)...); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}
