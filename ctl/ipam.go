package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

func newIPAM(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Show and correct which address is whose",
		Example: `  margayctl ipam show --show-blocks
  margayctl ipam release --ip=10.0.0.7`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIPAMShow(s), newIPAMRelease(s), newIPAMConfigure(s))
	return cmd
}

// withKV runs an action on the keys of the datastore: addresses are not objects.
func (s *session) withKV(ctx context.Context, action func(kv.KV) error) error {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	return action(st.KV())
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("--ip=%s is not an address: want one such as 10.0.0.7 or fd00::7", text)
	}
	return addr.Unmap(), nil
}

func newIPAMRelease(s *session) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "release --ip=IP",
		Short: "Give an address back that nobody uses any more",
		Long: `Give an address back that nobody uses any more.

Nothing checks that the address is unused: an allocator may give it to somebody else at once.`,
		Example: `  margayctl ipam show --ip=10.0.0.7
  margayctl ipam release --ip=10.0.0.7`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := parseAddress(text)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return s.withKV(ctx, func(store kv.KV) error {
				_, held, err := ipam.Lookup(ctx, store, addr)
				if err == nil && !held {
					err = fmt.Errorf("IP address %s is not assigned", addr)
				}
				if err == nil {
					err = ipam.ReleaseAddress(ctx, store, addr)
				}
				if err == nil {
					fmt.Fprintf(s.stdout, "Successfully released IP address %s\n", addr)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&text, "ip", "", "the address")
	return cmd
}

func newIPAMConfigure(s *session) *cobra.Command {
	var strict bool
	var blocks, cooldown uint16
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Change the configuration that all allocators of addresses obey",
		Long: `Change the configuration that all allocators of addresses obey. What no flag names stays as it is.

This is not the IPAMConfiguration object, which allocators on etcd do not read.`,
		Example: `  margayctl ipam configure --strictaffinity=true
  margayctl ipam configure --max-blocks-per-host=4 --ip-cooldown-seconds=60`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var lines []string
			var changes []func(*ipam.Config)
			set := func(flag, line string, change func(*ipam.Config)) {
				if cmd.Flags().Changed(flag) {
					lines, changes = append(lines, "Successfully set "+line), append(changes, change)
				}
			}
			set("strictaffinity", fmt.Sprintf("StrictAffinity to: %t", strict), func(c *ipam.Config) { c.StrictAffinity = strict })
			set("max-blocks-per-host", fmt.Sprintf("MaxBlocksPerHost to: %d", blocks), func(c *ipam.Config) { c.MaxBlocksPerHost = int(blocks) })
			set("ip-cooldown-seconds", fmt.Sprintf("IPCooldownSeconds to: %d", cooldown), func(c *ipam.Config) { c.CooldownSeconds = int(cooldown) })
			if len(changes) == 0 {
				return errors.New("say what to configure, for example --strictaffinity=true")
			}
			err := s.withKV(cmd.Context(), func(store kv.KV) error {
				return ipam.Configure(cmd.Context(), store, func(c *ipam.Config) {
					for _, change := range changes {
						change(c)
					}
				})
			})
			if err != nil {
				return err
			}
			for _, line := range lines {
				fmt.Fprintln(s.stdout, line)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&strict, "strictaffinity", false, "a node takes addresses from its own blocks only")
	cmd.Flags().Uint16Var(&blocks, "max-blocks-per-host", 0, "at most this many blocks for a node; 0: the allocator's default")
	cmd.Flags().Uint16Var(&cooldown, "ip-cooldown-seconds", 0, "how long a released address rests before it is given away again")
	return cmd
}

func newIPAMShow(s *session) *cobra.Command {
	var text string
	var blocks, borrowed, configuration bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print how much of each pool is in use, or who holds an address",
		Example: `  margayctl ipam show --show-blocks
  margayctl ipam show --ip=10.0.0.7
  margayctl ipam show --show-borrowed
  margayctl ipam show --show-configuration`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withKV(cmd.Context(), func(store kv.KV) error {
				switch {
				case text != "":
					return s.showAddress(cmd.Context(), store, text)
				case borrowed:
					return s.showBorrowed(cmd.Context(), store)
				case configuration:
					return s.showIPAMConfiguration(cmd.Context(), store)
				}
				return s.showUsage(cmd.Context(), store, blocks)
			})
		},
	}
	cmd.Flags().StringVar(&text, "ip", "", "who holds this address")
	cmd.Flags().BoolVar(&blocks, "show-blocks", false, "the blocks of each pool too")
	cmd.Flags().BoolVar(&borrowed, "show-borrowed", false, "addresses that are used on another node than their block's")
	cmd.Flags().BoolVar(&configuration, "show-configuration", false, "the configuration that allocators obey")
	cmd.MarkFlagsMutuallyExclusive("ip", "show-blocks", "show-borrowed", "show-configuration")
	return cmd
}

func (s *session) showIPAMConfiguration(ctx context.Context, store kv.KV) error {
	c, err := ipam.ReadConfig(ctx, store)
	if err != nil {
		return err
	}
	rows := [][]string{
		{"StrictAffinity", strconv.FormatBool(c.StrictAffinity)},
		{"AutoAllocateBlocks", strconv.FormatBool(c.AutoAllocateBlocks)},
		{"MaxBlocksPerHost", strconv.Itoa(c.MaxBlocksPerHost)},
		{"IPCooldownSeconds", strconv.Itoa(c.CooldownSeconds)},
	}
	if c.KubeVirtAddressPersistence != "" {
		rows = append(rows, []string{"KubeVirtVMAddressPersistence", c.KubeVirtAddressPersistence})
	}
	printBox(s.stdout, []string{"PROPERTY", "VALUE"}, rows)
	return nil
}
