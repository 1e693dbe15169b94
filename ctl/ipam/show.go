package ipam

import (
	"cmp"
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

func newShow(s Session) *cobra.Command {
	var text string
	var blocks, borrowed, configuration bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print how much of each pool is in use, or who holds an address",
		Example: `  margayctl ipam show --show-blocks
  margayctl ipam show --ip=10.0.0.7
  margayctl ipam show --show-borrowed
  margayctl ipam show --show-configuration`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withKV(cmd.Context(), func(store kv.KV) error {
				switch {
				case text != "":
					return s.showAddress(cmd.Context(), store, text)
				case borrowed:
					return s.showBorrowed(cmd.Context(), store)
				case configuration:
					return s.showConfiguration(cmd.Context(), store)
				}
				return s.showUsage(cmd.Context(), store, blocks)
			})
		},
	}
	cmd.Flags().StringVar(&text, "ip", "", "show who holds this address")
	cmd.Flags().BoolVar(&blocks, "show-blocks", false, "also show the blocks of each pool")
	cmd.Flags().BoolVar(&borrowed, "show-borrowed", false, "show borrowed addresses: those in use on another node than the one that claimed their block")
	cmd.Flags().BoolVar(&configuration, "show-configuration", false, "show the settings of address allocation")
	cmd.MarkFlagsMutuallyExclusive("ip", "show-blocks", "show-borrowed", "show-configuration")
	return cmd
}

func (s Session) showConfiguration(ctx context.Context, store kv.KV) error {
	c, err := ipam.ReadConfig(ctx, store)
	if err != nil {
		return err
	}
	rows := [][]string{
		{"StrictAffinity", strconv.FormatBool(c.StrictAffinity)},
		{"AutoAllocateBlocks", strconv.FormatBool(c.AutoAllocateBlocks)},
		{"MaxBlocksPerHost", strconv.Itoa(c.MaxBlocksPerHost)},
		{"KubeVirtVMAddressPersistence", cmp.Or(c.KubeVirtAddressPersistence, "<nil>")},
		{"IPCooldownSeconds", strconv.Itoa(c.CooldownSeconds)},
	}
	print.Box(s.Stdout, []string{"PROPERTY", "VALUE"}, rows)
	return nil
}
