package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore/ipam"
)

// assignment holds the flags of ipam assign.
type assignment struct {
	node, namespace, handle, ip, output string
	pools                               []string
	count                               int
	ipv6                                bool
}

// mostAddresses is the largest number of addresses that one handle gets by ipam assign.
const mostAddresses = 4096

func newAssign(s Session) *cobra.Command {
	var to assignment
	cmd := &cobra.Command{
		Use:   "assign --node=NODE --handle=ID [--namespace=NAMESPACE] [--pool=POOL]... [--count=N] [--ipv6] | --ip=IP",
		Short: "Assign free addresses to a handle",
		Long: `Assign free addresses to a handle, for use on a node, and print all addresses of the handle.

The handle names the holder: "margayctl ipam release --handle" releases its addresses together. The count includes addresses
that the handle has already, so the command may be repeated, for example after a lost connection.

Addresses come from blocks of the node, or else from a new block, which the node then announces. Without --pool, the pools are
those that are enabled, are for workloads, and select the node and the namespace: without --namespace only those without a
namespaceSelector, or whose selector also matches no labels. With --ip, the given address is assigned if nobody has it.

"margayctl ipam check" calls an assigned address leaked until a WorkloadEndpoint or a Node has it. WorkloadEndpoints with the
annotation margay.io/ipam need no such command: the agent of their node assigns their addresses.`,
		Example: `  margayctl ipam assign --node=host1 --handle=vm-42
  margayctl ipam assign --node=host1 --handle=vm-42 --pool=vms --count=2 -o json
  margayctl ipam assign --node=host1 --handle=vm-43 --ip=10.65.0.7`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := to.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return s.assign(cmd.Context(), &to)
		},
	}
	cmd.Flags().StringVar(&to.node, "node", "", "the Node that uses the addresses")
	cmd.Flags().StringVarP(&to.namespace, "namespace", "n", "", "the namespace of the workload that uses the addresses, for pools with a namespaceSelector")
	cmd.Flags().StringVar(&to.handle, "handle", "", "name of the holder")
	cmd.Flags().StringArrayVar(&to.pools, "pool", nil, "take the addresses from this IPPool only; may be repeated")
	cmd.Flags().IntVar(&to.count, "count", 1, fmt.Sprintf("number of addresses that the handle has afterwards, up to %d", mostAddresses))
	cmd.Flags().BoolVar(&to.ipv6, "ipv6", false, "assign IPv6 addresses instead of IPv4 addresses")
	cmd.Flags().StringVar(&to.ip, "ip", "", "assign this address")
	cmd.Flags().StringVarP(&to.output, "output", "o", "table", "table, json or yaml")
	for _, other := range []string{"pool", "count", "ipv6"} {
		cmd.MarkFlagsMutuallyExclusive("ip", other)
	}
	complete := func(flag, kind string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return s.NamesOf(cmd.Context(), kind, nil), cobra.ShellCompDirectiveNoFileComp
		})
	}
	complete("node", api.KindNode)
	complete("pool", api.KindIPPool)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check checks the flags. changed says whether a flag was given.
func (to *assignment) check(changed func(flag string) bool) error {
	switch {
	case to.node == "":
		return hints.With(errors.New("--node is missing: blocks of addresses belong to nodes"), "margayctl get nodes lists the nodes")
	case to.handle == "":
		return hints.With(errors.New("--handle is missing: without it, nobody could tell later who has the addresses"), "for example --handle=vm-42")
	case strings.ContainsFunc(to.handle, func(r rune) bool { return r <= ' ' || r == '/' || r > '~' }):
		return fmt.Errorf("--handle=%q: want a name of ASCII characters, without spaces and slashes", to.handle)
	case strings.HasPrefix(to.handle, api.HandlePrefix):
		return fmt.Errorf("--handle=%s: names that begin with %s belong to the agents: choose another", to.handle, api.HandlePrefix)
	case to.count < 1 || to.count > mostAddresses:
		return fmt.Errorf("--count=%d: want 1 to %d", to.count, mostAddresses)
	case changed("ip") && to.ip == "":
		_, err := parseAddress(to.ip)
		return err
	}
	return print.CheckOutput(to.output)
}

func (s Session) assign(ctx context.Context, to *assignment) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	store := st.WhileUnlocked().KV()
	request := ipam.Request{
		Node: to.node, Namespace: to.namespace, Handle: to.handle, Pools: to.pools, V4: to.count, InUse: ipam.UsesIn(store),
		Attributes: map[string]string{"node": to.node, "timestamp": s.Now().UTC().Format(time.RFC3339)},
	}
	if to.namespace != "" {
		request.Attributes["namespace"] = to.namespace
	}
	if to.ipv6 {
		request.V4, request.V6 = 0, to.count
	}
	var addrs []netip.Addr
	if to.ip == "" {
		addrs, err = ipam.Assign(ctx, store, request)
	} else {
		var addr netip.Addr
		if addr, err = parseAddress(to.ip); err == nil {
			addrs, err = []netip.Addr{addr}, ipam.AssignAddress(ctx, store, request, addr)
		}
	}
	if err != nil {
		return err
	}
	result := assigned{Handle: to.handle, Node: to.node}
	for _, addr := range addrs {
		a, _, err := ipam.Lookup(ctx, store, addr)
		if err != nil {
			return err
		}
		result.Addresses = append(result.Addresses, assignedAddress{addr.String(), a.Block.String(), strings.TrimPrefix(a.Owner, "host:"), a.Borrowed()})
	}
	return result.print(s, to.output)
}

// assigned is the answer of ipam assign.
type assigned struct {
	Handle    string            `json:"handle"`
	Node      string            `json:"node"`
	Addresses []assignedAddress `json:"addresses"`
}

type assignedAddress struct {
	Address  string `json:"address"`
	Block    string `json:"block"`
	Owner    string `json:"blockOwner"` // the node
	Borrowed bool   `json:"borrowed"`   // the block belongs to another node
}

func (a assigned) print(s Session, output string) error {
	if output == "table" {
		var rows [][]string
		for _, one := range a.Addresses {
			rows = append(rows, []string{one.Address, one.Block, one.Owner, a.Handle})
		}
		print.Box(s.Stdout, []string{"IP", "BLOCK", "BLOCK OWNER", "HANDLE"}, rows)
		return nil
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err == nil && output == "yaml" {
		text, err = api.YAMLOfJSON(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Stdout, strings.TrimSuffix(string(text), "\n"))
	return err
}
