package ipam

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// settings are the values of the flags of ipam configure.
type settings struct {
	strict      bool
	blocks      int
	persistence string
	cooldown    int
}

func newConfigure(s Session) *cobra.Command {
	var to settings
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Change the settings of address allocation, for all nodes",
		Long: `Change the settings of address allocation, for all nodes. Settings without a flag stay as they are.

These are not the settings of the IPAMConfiguration object, which allocators on etcd do not read.`,
		Example: `  margayctl ipam configure --strictaffinity=true
  margayctl ipam configure --max-blocks-per-host=4 --ip-cooldown-seconds=60`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lines, change, err := to.given(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			err = s.withKV(cmd.Context(), func(store kv.KV) error { return ipam.Configure(cmd.Context(), store, change) })
			if err != nil {
				return err
			}
			for _, line := range lines {
				fmt.Fprintln(s.Stdout, "Successfully set "+line)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&to.strict, "strictaffinity", false, "a node takes addresses from its own blocks only")
	cmd.Flags().IntVar(&to.blocks, "max-blocks-per-host", 0,
		fmt.Sprintf("most blocks that a node may claim, up to %d; 0 is the allocator's default; needs strict affinity", mostBlocks))
	cmd.Flags().StringVar(&to.persistence, "kubevirt-ip-persistence", "",
		"Enabled or Disabled: whether a virtual machine of KubeVirt keeps its address when it stops or moves")
	cmd.Flags().IntVar(&to.cooldown, "ip-cooldown-seconds", 0,
		fmt.Sprintf("seconds until a released address may be allocated again, up to %d", longestCooldown))
	_ = cmd.RegisterFlagCompletionFunc("kubevirt-ip-persistence", cobra.FixedCompletions(persistences(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Largest values, as in IPAMConfiguration; longestCooldown is in seconds.
const (
	mostBlocks      = 1_000_000
	longestCooldown = 1200
)

func persistences() []string { return []string{"Enabled", "Disabled"} }

// given returns the lines to print and the change to make for the flags of the command line. changed says whether a flag
// was given.
func (to *settings) given(changed func(flag string) bool) (lines []string, change func(*ipam.Config), err error) {
	var changes []func(*ipam.Config)
	set := func(flag, name string, value any, valid bool, want string, change func(*ipam.Config)) {
		switch {
		case !changed(flag):
		case !valid:
			err = errors.Join(err, fmt.Errorf("--%s=%v: want %s", flag, value, want))
		default:
			lines, changes = append(lines, fmt.Sprintf("%s to: %v", name, value)), append(changes, change)
		}
	}
	set("strictaffinity", "StrictAffinity", to.strict, true, "", func(c *ipam.Config) { c.StrictAffinity = to.strict })
	set("max-blocks-per-host", "MaxBlocksPerHost", to.blocks, 0 <= to.blocks && to.blocks <= mostBlocks,
		fmt.Sprintf("0 to %d", mostBlocks), func(c *ipam.Config) { c.MaxBlocksPerHost = to.blocks })
	set("kubevirt-ip-persistence", "KubeVirtVMAddressPersistence", to.persistence, slices.Contains(persistences(), to.persistence),
		strings.Join(persistences(), " or "), func(c *ipam.Config) { c.KubeVirtAddressPersistence = to.persistence })
	set("ip-cooldown-seconds", "IPCooldownSeconds", to.cooldown, 0 <= to.cooldown && to.cooldown <= longestCooldown,
		fmt.Sprintf("0 to %d", longestCooldown), func(c *ipam.Config) { c.CooldownSeconds = to.cooldown })
	if err == nil && len(changes) == 0 {
		err = hints.With(errors.New("at least one configuration option must be specified"), "for example --strictaffinity=true")
	}
	return lines, func(c *ipam.Config) {
		for _, change := range changes {
			change(c)
		}
	}, err
}
