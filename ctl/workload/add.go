package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

// addition holds the flags of workload add.
type addition struct {
	place                                    place
	iface, mac, endpoint, orchestrator, ipam string
	addresses, pools, labels, profiles       []string
	count, ipv6Count                         int
	out                                      Output
}

const addHelp = `Make a WorkloadEndpoint for an interface of a workload, with its addresses, in one transaction: a failure or Ctrl-C leaves nothing
behind. The same command again changes nothing; with other flags it changes the endpoint to what they say. Endpoints that were made in
another way are left alone.

Addresses are given with --address, or IPAM chooses them with --ipam auto: one IPv4 address, unless --count and --ipv6-count say
otherwise. --pool names the IPPools to choose from and implies --ipam auto. An endpoint keeps the addresses that were chosen for it. An
endpoint without addresses is closed. A given address in an IPPool is recorded in IPAM.

The interface need not exist yet: felix waits for it. --interface may name its alternative name or its alias. The name of the endpoint is
made of the node, --orchestrator, the name of the workload, and --endpoint, which tells several interfaces of a workload apart.`

func newAdd(s Session) *cobra.Command {
	var f addition
	cmd := &cobra.Command{
		Use:   "add NAME --interface INTERFACE [--address IP]... [--ipam auto | --pool POOL]...",
		Short: "Make the WorkloadEndpoint of an interface, with its addresses",
		Long:  addHelp,
		Example: `  margayctl workload add web --interface tap0 --ipam auto --label role=web --profile vm
  margayctl workload add db --interface tap1 --address 10.65.0.7 --address fd00:65::7 --mac 52:54:00:12:34:56
  margayctl workload add db --interface tap2 --endpoint eth1 --pool storage --dry-run -o yaml`,
		Args:              arguments.Exactly(1, "NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return err
			}
			return s.add(cmd.Context(), args[0], &f)
		},
	}
	f.addFlags(s, cmd)
	return cmd
}

func (f *addition) addFlags(s Session, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.iface, "interface", "", "the interface on the host")
	flags.StringArrayVar(&f.addresses, "address", nil, "an address of the interface; may be repeated")
	flags.StringVar(&f.ipam, "ipam", "", "auto: IPAM chooses the addresses")
	flags.StringArrayVar(&f.pools, "pool", nil, "choose the addresses from this IPPool only; may be repeated")
	flags.IntVar(&f.count, "count", 1, "number of IPv4 addresses to choose")
	flags.IntVar(&f.ipv6Count, "ipv6-count", 0, "number of IPv6 addresses to choose")
	flags.StringVar(&f.mac, "mac", "", "MAC address of the workload: packets from others are dropped")
	flags.StringArrayVar(&f.labels, "label", nil, "a label KEY=VALUE, for selectors of policies; may be repeated")
	flags.StringArrayVar(&f.profiles, "profile", nil, "a Profile, whose rules decide packets that no policy decides; may be repeated")
	flags.StringVarP(&f.place.namespace, "namespace", "n", "default", "the namespace of the endpoint")
	flags.StringVar(&f.place.node, "node", "", "the Node that has the interface (default this machine's)")
	flags.StringVar(&f.endpoint, "endpoint", "eth0", "name of the interface inside of the workload")
	flags.StringVar(&f.orchestrator, "orchestrator", "vm", "part of the endpoint's name: the program that runs the workload")
	f.out.AddFlags(cmd)
	for _, chosen := range []string{"ipam", "pool", "count", "ipv6-count"} {
		cmd.MarkFlagsMutuallyExclusive("address", chosen)
	}
	s.complete(cmd, "node", api.KindNode)
	s.complete(cmd, "pool", api.KindIPPool)
	s.complete(cmd, "profile", api.KindProfile)
	_ = cmd.RegisterFlagCompletionFunc("ipam", cobra.FixedCompletions([]string{"auto"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("interface", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names, _ := s.Interfaces()
		return sortedNames(names), cobra.ShellCompDirectiveNoFileComp
	})
}

func (f *addition) check(flags *pflag.FlagSet) error {
	switch {
	case f.iface == "":
		return hints.With(errors.New("--interface is missing: policy is enforced at the interface on the host"), "for example --interface tap0; ip -br link lists the interfaces")
	case flags.Changed("ipam") && f.ipam != "auto":
		return fmt.Errorf("--ipam=%s: want auto, or give addresses with --address", f.ipam)
	case (flags.Changed("count") || flags.Changed("ipv6-count")) && !f.chooses():
		return errors.New("--count and --ipv6-count say how many addresses IPAM chooses: give --ipam auto or --pool too")
	}
	return f.out.Check()
}

// chooses says whether IPAM chooses the addresses.
func (f *addition) chooses() bool { return f.ipam == "auto" || len(f.pools) > 0 }

func (s Session) add(ctx context.Context, name string, f *addition) error {
	wanted, err := f.wanted(name)
	if err != nil {
		return err
	}
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	here, err := s.NodeHere(ctx, st)
	if err != nil {
		return err
	}
	ep := wanted.Endpoint
	ep.Spec.Node = cmp.Or(ep.Spec.Node, here)
	if ep.Name, err = api.WorkloadEndpointName(ep.Spec); err != nil {
		return err
	}
	outcomes, err := s.Write(ctx, st, Set{Maker: api.MadeByWorkload, Wanted: []Wanted{wanted}}, f.out.Dry())
	if err != nil {
		return err
	}
	if err := s.Report(outcomes, f.out); err != nil {
		return err
	}
	if names, err := s.Interfaces(); here == ep.Spec.Node && err == nil && !names[ep.Spec.InterfaceName] {
		fmt.Fprintf(s.Stderr, "warning: %v: this machine has no interface %s yet; felix waits for it\n", api.KeyOf(ep), ep.Spec.InterfaceName)
	}
	s.Caution(ctx, st, outcomes)
	return nil
}

// wanted makes the endpoint that the flags describe, without the parts that need the datastore.
func (f *addition) wanted(name string) (Wanted, error) {
	ep := &api.WorkloadEndpoint{
		TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint, APIVersion: api.APIVersion},
		Metadata: api.Metadata{Namespace: f.place.namespace, Labels: map[string]string{}},
	}
	ep.Spec = api.WorkloadEndpointSpec{
		Node: f.place.node, Orchestrator: f.orchestrator, Workload: name, Endpoint: f.endpoint,
		InterfaceName: f.iface, MAC: strings.ToLower(f.mac), IPNetworks: f.addresses, Profiles: f.profiles,
	}
	for _, text := range f.labels {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return Wanted{}, fmt.Errorf("--label=%s: want KEY=VALUE, such as role=web", text)
		}
		ep.Labels[key] = value
	}
	if !f.chooses() {
		return Wanted{Endpoint: ep}, nil
	}
	request := api.AddressRequest{Pools: f.pools, Count: f.count, IPv6Count: f.ipv6Count}
	return Wanted{ep, &request}, request.Check()
}
