package ipam

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv"
)

// Session is the part of a run of margayctl that the commands of ipam use.
type Session struct {
	Stdout, Stderr io.Writer
	Now            func() time.Time
	Version        func() string // of margayctl; reports carry it
	// Open connects to the datastore. The caller calls the function that it returns when it needs the store no more.
	Open func(ctx context.Context) (Store, func(), error)
	// NamesOf completes the names of a kind's objects, without those that are given already.
	NamesOf func(ctx context.Context, kind string, given []string) []string
}

// Store is the part of the datastore that the commands use. Addresses are not objects: KV gives access to their keys.
type Store interface {
	KV() kv.KV
	WhileUnlocked() *datastore.Store // the same store, whose changes fail while it is locked
	List(ctx context.Context, kind, namespace string) ([]api.Object, string, error)
	SplitPool(ctx context.Context, name string, parts int) ([]*api.IPPool, error)
}

// New returns the command ipam with its own commands.
func New(s Session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Show who holds each address, assign addresses, and correct IPAM's records",
		Example: `  margayctl ipam show --show-blocks
  margayctl ipam assign --node=host1 --handle=vm-42
  margayctl ipam check --show-problem-ips`,
		Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newShow(s), newAssign(s), newCheck(s), newRelease(s), newSplit(s), newConfigure(s))
	return cmd
}

// withKV runs an action on the keys of the datastore: addresses are not objects.
func (s Session) withKV(ctx context.Context, action func(kv.KV) error) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	return action(st.KV())
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("--ip=%s is not an address: want an address such as 10.0.0.7 or fd00::7", text)
	}
	return addr.Unmap(), nil
}
