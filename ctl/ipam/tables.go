package ipam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

func (s Session) showUsage(ctx context.Context, store kv.KV, blocks bool) error {
	pools, err := ipam.Usages(ctx, store)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, p := range pools {
		if p.CIDR.IsValid() {
			rows = append(rows, usageRow("IP Pool", p))
		}
		if !blocks {
			continue
		}
		for _, b := range p.Blocks {
			rows = append(rows, usageRow("Block", b))
		}
	}
	print.Box(s.Stdout, []string{"GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"}, rows)
	return nil
}

func usageRow(grouping string, u ipam.Usage) []string {
	part := func(n float64) string { return fmt.Sprintf("%.5g (%.f%%)", n, 100*n/u.Total) }
	return []string{grouping, u.CIDR.String(), fmt.Sprintf("%.5g", u.Total), part(u.InUse), part(u.Reserved), part(u.Free())}
}

func (s Session) showAddress(ctx context.Context, store kv.KV, text string) error {
	addr, err := parseAddress(text)
	if err != nil {
		return err
	}
	a, held, err := ipam.Lookup(ctx, store, addr)
	switch {
	case err != nil:
		return err
	case !held:
		fmt.Fprintf(s.Stdout, "%s is not assigned\n", addr)
		return nil
	}
	fmt.Fprintf(s.Stdout, "IP %s is in use\nHandle ID: %s\n", addr, orNone(a.Handle))
	s.printAttributes("Active Owner Attributes:", a.Attributes)
	s.printAttributes("Alternate Owner Attributes:", a.Alternate)
	return nil
}

func (s Session) printAttributes(title string, attributes map[string]string) {
	if len(attributes) > 0 {
		fmt.Fprintln(s.Stdout, title)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Fprintf(s.Stdout, "  %s: %s\n", name, attributes[name])
	}
}

func (s Session) showBorrowed(ctx context.Context, store kv.KV) error {
	var rows [][]string
	unknown := 0
	err := ipam.Assignments(ctx, store, func(a ipam.Assignment) error {
		if _, ok := a.Attributes["node"]; !ok {
			unknown++
		} else if a.Borrowed() {
			kind, holder := holderOf(a)
			rows = append(rows, []string{a.Addr.String(), a.Attributes["node"], a.Block.String(), strings.TrimPrefix(a.Owner, "host:"), kind, holder})
		}
		return nil
	})
	if err != nil {
		return err
	}
	print.Box(s.Stdout, []string{"IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"}, rows)
	if unknown > 0 {
		fmt.Fprintf(s.Stdout, "\nNote: found %d IP allocations without an explicit node association. Unable to determine if they are borrowed.\n", unknown)
	}
	return nil
}

// holderOf names the holder of an address, from the attributes that allocators store.
func holderOf(a ipam.Assignment) (kind, holder string) {
	if pod, ok := a.Attributes["pod"]; ok {
		return "pod", a.Attributes["namespace"] + "/" + pod
	}
	if kind, ok := a.Attributes["type"]; ok {
		return kind, a.Attributes["node"]
	}
	return "", a.Handle
}
