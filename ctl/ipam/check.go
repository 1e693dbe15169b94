package ipam

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

func newCheck(s Session) *cobra.Command {
	var printer checkPrinter
	var file, kubeconfig string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare IPAM's records with nodes and workload endpoints",
		Long: `Compare IPAM's records with nodes and workload endpoints, and with each other.

Everything is read at one revision, and nothing is changed. "margayctl ipam release --from-report" releases the addresses that
a report of this command calls leaked. Owners that only Kubernetes knows, such as load balancers, cannot be looked up here:
their addresses count as in use.`,
		Example: `  margayctl ipam check
  margayctl ipam check --show-problem-ips -o report.json`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c *ipam.Check
			err := s.withKV(cmd.Context(), func(store kv.KV) (err error) {
				c, err = ipam.RunCheck(cmd.Context(), store, s.Now())
				return err
			})
			if err != nil {
				return err
			}
			printer.stdout = s.Stdout
			printer.problems = printer.problems || printer.all
			printer.print(c)
			if file == "" {
				return nil
			}
			if err := c.Blind(); err != nil {
				return fmt.Errorf("no report is written: %w", err)
			}
			if c.Cluster.GUID == "" {
				return errors.New("no report is written: the datastore has no ClusterInformation with a clusterGUID, " +
					"which tells the reports of different datastores apart: margayctl datastore migrate lock creates one")
			}
			return newReport(c, s.Version()).write(file)
		},
	}
	cmd.Flags().BoolVar(&printer.all, "show-all-ips", false, "print every address that is checked")
	cmd.Flags().BoolVar(&printer.problems, "show-problem-ips", false, "print every address that is leaked, or not allocated as it should be")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write a report to this file, as JSON")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "accepted for scripts of calicoctl; has no effect, because Margay does not use Kubernetes")
	return cmd
}

// checkPrinter prints a check.
type checkPrinter struct {
	stdout        io.Writer
	all, problems bool // print the long lists: --show-all-ips and --show-problem-ips
}

// line prints one line of a list, if the list is wanted.
func (p checkPrinter) line(wanted bool, format string, args ...any) {
	if wanted {
		p.say("  "+format, args...)
	}
}

func (p checkPrinter) say(format string, args ...any) { fmt.Fprintf(p.stdout, format+"\n", args...) }

// print prints a check in calicoctl's words, then the checks that calicoctl does not make.
func (p checkPrinter) print(c *ipam.Check) {
	p.say("Checking IPAM for inconsistencies...\n")
	p.printBlocks(c)
	p.printPools(c)
	p.printUses(c)
	p.printTopNodes(c)
	problems := p.printUnknown(c) + p.printLeaks(c) + p.printNotAllocated(c)
	problems += p.printHandles(c) + p.printDamage(c)
	p.say("Check complete; found %d problems.", problems)
}

func (p checkPrinter) printBlocks(c *ipam.Check) {
	p.say("Loading all IPAM blocks...")
	p.say("Found %d IPAM blocks.", len(c.Blocks))
	allocations := 0
	for _, b := range c.Blocks {
		p.say(" IPAM block %v affinity=%s:", b.CIDR, orNone(b.Owner))
		allocations += len(b.Allocations)
		for _, a := range b.Allocations {
			p.line(p.all, "%v allocated; attrs %s", a.Addr, attributesOf(a))
		}
	}
	p.say("IPAM blocks record %d allocations.\n", allocations)
}

func (p checkPrinter) printPools(c *ipam.Check) {
	p.say("Loading all IPAM pools...")
	for _, pool := range c.Pools {
		p.say("  %v", pool)
	}
	p.say("Found %d active IP pools.\n", len(c.Pools))
}

func (p checkPrinter) printUses(c *ipam.Check) {
	list := func(uses []ipam.Use) {
		for _, use := range uses {
			p.line(p.all, "%v belongs to %s", use.Addr, use.Owner)
		}
	}
	p.say("Loading all nodes.")
	list(c.Tunnels)
	p.say("Found %d node tunnel IPs.\n", len(c.Tunnels))
	p.say("Loading all workload endpoints.")
	list(c.Workloads)
	p.say("Found %d workload IPs.", len(c.Workloads))
	different := map[netip.Addr]bool{}
	for _, use := range slices.Concat(c.Tunnels, c.Workloads) {
		different[use.Addr] = true
	}
	p.say("Workloads and nodes are using %d IPs.\n", len(different))
	p.say("Loading all handles")
}

func (p checkPrinter) printTopNodes(c *ipam.Check) {
	const top = 20
	p.say("Looking for top (up to %d) nodes by allocations...", top)
	nodes := c.ByNode()
	for _, n := range nodes[:min(top, len(nodes))] {
		p.line(true, "%s has %d allocations", orNone(n.Node), n.Allocations)
	}
	if len(nodes) > 0 {
		p.say("Node with most allocations has %d; median is %d", nodes[0].Allocations, nodes[len(nodes)/2].Allocations)
	}
	p.say("")
}

// printUnknown prints addresses that must be assumed to be in use. Those of Kubernetes do not count as problems.
func (p checkPrinter) printUnknown(c *ipam.Check) (problems int) {
	p.say("Scanning for IPs with unknown types...")
	elsewhere := 0
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		for _, a := range c.Allocations[addr] {
			switch a.Standing {
			case ipam.UnknownType:
				p.line(p.problems, "%v allocation has unknown type (%s) Assuming IP is still in use.", addr, a.Of("type"))
				problems++
			case ipam.Elsewhere:
				p.line(p.all, "%v belongs to Kubernetes, which is not asked. Assuming IP is still in use.", addr)
				elsewhere++
			}
		}
	}
	if problems > 0 {
		p.say("Warning: found %d IPs with unknown allocation types. Perhaps a new version of this tool is needed?", problems)
	} else {
		p.say("Found 0 IPs with unknown allocation types.")
	}
	if elsewhere > 0 {
		p.say("Found %d IPs whose owners only Kubernetes knows.", elsewhere)
	}
	return problems
}

func (p checkPrinter) printLeaks(c *ipam.Check) int {
	p.say("Scanning for IPs that are allocated but not actually in use...")
	leaks := c.Leaks()
	for _, addr := range leaks {
		for _, a := range c.Allocations[addr] {
			p.line(p.problems, "%v leaked; attrs %s", addr, attributesOf(a))
		}
	}
	p.say("Found %d IPs that are allocated in IPAM but not actually in use.", len(leaks))
	return len(leaks)
}

func (p checkPrinter) printNotAllocated(c *ipam.Check) int {
	list := func(uses []ipam.Use, words string) int {
		different := map[netip.Addr]bool{}
		for _, use := range uses {
			different[use.Addr] = true
			p.line(p.problems, "%v in use by %s %s", use.Addr, use.Owner, words)
		}
		return len(different)
	}
	p.say("Scanning for IPs that are in use by a workload or node but not allocated in IPAM...")
	outside := list(c.OutsidePools, "is not in any active IP pool.")
	inside := list(c.NotAllocated, "and in active IPAM pool but has no IPAM allocation.")
	p.say("Found %d in-use IPs that are not in active IP pools.", outside)
	p.say("Found %d in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n", inside)
	return outside + inside
}

func (p checkPrinter) printHandles(c *ipam.Check) int {
	p.say("Scanning for IPAM handles with no matching IPs...")
	for _, h := range c.LeakedHandles {
		p.line(p.problems, "%s doesn't have any active IPs.", h.ID)
	}
	p.say("Found %d handles with no matching IPs (and %d handles with matches).", len(c.LeakedHandles), c.GoodHandles)
	p.say("Scanning for IPs with missing handle...")
	for _, id := range c.MissingHandles {
		p.line(p.problems, "%s is in use in a block but doesn't exist.", id)
	}
	p.say("Found %d handles mentioned in blocks with no matching handle resource.", len(c.MissingHandles))
	return len(c.LeakedHandles) + len(c.MissingHandles)
}

// printDamage prints contradictions between the parts of IPAM. Lists of addresses can be long and are printed on demand only.
func (p checkPrinter) printDamage(c *ipam.Check) (problems int) {
	for _, part := range []struct {
		title, prefix string
		lines         []string
		wanted        bool
		found         string
	}{
		{"Validating IPAMBlock structures...", "IPAMBlock ", c.InvalidBlocks, true, "invalid IPAMBlocks"},
		{"Scanning for IPs that are allocated twice...", "", c.Twice, p.problems, "IPs with two blocks or two owners"},
		{"Scanning for allocated IPs outside of all IP pools...", "", c.NoPool, p.problems, "allocated IPs that are in no IP pool"},
		{"Comparing handles with blocks...", "", c.Counts, true, "handle counts that do not match the blocks"},
		{"Comparing block affinities with blocks and nodes...", "", c.Affinities, true, "wrong block affinities"},
		{"Looking for values that cannot be read or are not valid...", "", c.Unreadable, true, "unreadable or invalid values"},
	} {
		p.say("%s", part.title)
		for _, line := range part.lines {
			p.line(part.wanted, "%s%s", part.prefix, line)
		}
		p.say("Found %d %s.", len(part.lines), part.found)
		problems += len(part.lines)
	}
	for _, addr := range c.Reserved {
		p.line(p.all, "%v is allocated although an IPReservation covers it.", addr)
	}
	if len(c.Reserved) > 0 {
		p.say("%d allocated IPs are in an IPReservation; they stay with their owners.", len(c.Reserved))
	}
	return problems
}

// attributesOf formats the attributes that the allocator stored with an allocation, in one line.
func attributesOf(a *ipam.Allocation) string {
	if a.Attribute == nil {
		return "<missing>"
	}
	handle := "<none>"
	if a.Attribute.HandleID != nil {
		handle = *a.Attribute.HandleID
	}
	text := fmt.Sprintf("Main:%s Extra:%s", handle, pairs(a.Attribute.Secondary))
	if len(a.Attribute.AlternateOwnerAttrs) > 0 {
		text += " Alternate:" + pairs(a.Attribute.AlternateOwnerAttrs)
	}
	return text
}

func pairs(attributes map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		all = append(all, name+"="+attributes[name])
	}
	return strings.Join(all, ",")
}

func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}
