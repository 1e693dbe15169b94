package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
)

func newSplit(s Session) *cobra.Command {
	var cidr, name string
	cmd := &cobra.Command{
		Use:   "split NUMBER {--cidr=CIDR | --name=POOL}",
		Short: "Split an IP pool into smaller pools of equal size",
		Long: `Split an IP pool into smaller pools of equal size, for example to enable or route them one by one.

NUMBER is a power of two. The new pools are named split-POOL-0, split-POOL-1 and so on. They are enabled, and copy all other
settings of the old pool. Its blocks and addresses stay as they are and belong to the new pools. The datastore must be locked.

Up to sixty pools are created, and the old one deleted, in one transaction. With more, an interrupted split leaves the old
pool disabled beside some of the new ones: run the same command again to create the others and delete the old pool.`,
		Example: `  margayctl datastore migrate lock
  margayctl ipam split 4 --cidr=10.0.0.0/16
  margayctl datastore migrate unlock`,
		Args: arguments.Exactly(1, "the number of pools"),
		RunE: func(cmd *cobra.Command, args []string) error {
			parts, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("error reading number to split IP pools into. %s is not a valid number", args[0])
			}
			if cidr == "" && name == "" {
				return errors.New("no name or CIDR provided. Provide a name or CIDR to denote the IP pool to split")
			}
			return s.splitPool(cmd.Context(), name, cidr, parts)
		},
	}
	cmd.Flags().StringVar(&cidr, "cidr", "", "the network of the pool")
	cmd.Flags().StringVar(&name, "name", "", "the name of the pool")
	_ = cmd.RegisterFlagCompletionFunc("name", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.NamesOf(cmd.Context(), api.KindIPPool, nil), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (s Session) splitPool(ctx context.Context, name, cidr string, parts int) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	if name, err = findPool(ctx, st, name, cidr); err != nil {
		return err
	}
	pools, err := st.SplitPool(ctx, name, parts)
	if errors.Is(err, datastore.ErrUnlocked) {
		err = errors.New("datastore is not locked, and allocators could take addresses of the pool meanwhile")
		return hints.With(err, "lock it first: margayctl datastore migrate lock")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Stdout, "IP Pool %s was successfully split into %d smaller pools.\n", name, len(pools))
	for _, pool := range pools {
		fmt.Fprintf(s.Stdout, "Created %s with CIDR %s.\n", pool.Name, pool.Spec.CIDR)
	}
	return nil
}

// findPool returns the name of the pool with the given name, CIDR, or both.
func findPool(ctx context.Context, st Store, name, cidr string) (string, error) {
	var want netip.Prefix
	if cidr != "" {
		var err error
		if want, err = netip.ParsePrefix(cidr); err != nil {
			return "", fmt.Errorf("--cidr=%s is not a network: want a network such as 10.0.0.0/16", cidr)
		}
	}
	objects, _, err := st.List(ctx, api.KindIPPool, "")
	if err != nil {
		return "", err
	}
	for _, o := range objects {
		pool := o.(*api.IPPool)
		is, err := netip.ParsePrefix(pool.Spec.CIDR)
		if (name == "" || pool.Name == name) && (cidr == "" || err == nil && is.Masked() == want.Masked()) {
			return pool.Name, nil
		}
	}
	if cidr == "" {
		return "", fmt.Errorf("unable to find IP pool with name %s", name)
	}
	return "", fmt.Errorf("unable to find IP pool %s covering the specified CIDR %s", name, cidr)
}
