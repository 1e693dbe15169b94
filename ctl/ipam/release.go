package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

func newRelease(s Session) *cobra.Command {
	var text, handle string
	var reports []string
	var force bool
	cmd := &cobra.Command{
		Use:   "release [--ip=IP | --handle=ID | --from-report=FILE [FILE...]]",
		Short: "Release addresses that nobody uses any more",
		Long: `Release addresses that nobody uses any more.

With --ip or --handle, margayctl does not check whether an address is in use. An allocator may give it to another workload at
once. --handle releases all addresses of a handle.

With --from-report, margayctl releases the addresses and handles that a report of "margayctl ipam check" calls leaked. With
several reports, it releases only those that all reports name: an address that was just being allocated during one check is
not leaked in the next. One of the reports must be newer than the last change of the datastore's lock. The datastore must be
locked, so that no allocator changes anything meanwhile. An address that has a new owner or user since the report stays.

--force accepts an unlocked datastore and reports of other versions. It does not accept a report of another datastore, and
at least one report must be newer than the last change of the lock.`,
		Example: `  margayctl ipam release --ip=10.0.0.7
  margayctl ipam release --handle=vm-42

  margayctl datastore migrate lock
  margayctl ipam check -o report.json
  margayctl ipam release --from-report=report.json
  margayctl datastore migrate unlock`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(reports) > 0 {
				return nil // more reports
			}
			return arguments.None(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("ip") && handle == "" && len(reports) == 0 {
				fmt.Fprintln(s.Stderr, "nothing is released: give --ip=IP, --handle=ID or --from-report=FILE")
				return nil // no error, as in calicoctl: scripts pass an empty list of flags
			}
			return s.withKV(cmd.Context(), func(store kv.KV) error {
				if len(reports) > 0 {
					return s.releaseReported(cmd.Context(), store, append(reports, args...), force)
				}
				if handle != "" {
					return s.releaseHandle(cmd.Context(), store, handle)
				}
				return s.releaseOne(cmd.Context(), store, text)
			})
		},
	}
	cmd.Flags().StringVar(&text, "ip", "", "the address to release")
	cmd.Flags().StringVar(&handle, "handle", "", "release all addresses of this handle")
	cmd.Flags().StringArrayVar(&reports, "from-report", nil, "release the leaks in this report of ipam check; may be repeated")
	cmd.Flags().BoolVar(&force, "force", false, "accept an unlocked datastore and reports of other versions")
	cmd.MarkFlagsMutuallyExclusive("ip", "handle", "from-report")
	_ = cmd.MarkFlagFilename("from-report", "json")
	return cmd
}

func (s Session) releaseOne(ctx context.Context, store kv.KV, text string) error {
	addr, err := parseAddress(text)
	if err != nil {
		return err
	}
	_, held, err := ipam.Lookup(ctx, store, addr)
	if err == nil && !held {
		err = fmt.Errorf("IP address %s is not assigned", addr)
	}
	if err == nil {
		err = ipam.ReleaseAddress(ctx, store, addr)
	}
	if err == nil {
		fmt.Fprintf(s.Stdout, "Successfully released IP address %s\n", addr)
	}
	return err
}

func (s Session) releaseHandle(ctx context.Context, store kv.KV, handle string) error {
	addrs, err := ipam.Held(ctx, store, handle)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return hints.With(fmt.Errorf("handle %s holds no address", handle), "margayctl ipam check shows handles without addresses")
	}
	if err := ipam.Release(ctx, store, handle); err != nil {
		return err
	}
	for _, addr := range addrs {
		fmt.Fprintf(s.Stdout, "Successfully released IP address %s\n", addr)
	}
	return nil
}

// releaseReported releases the leaks that all reports name, except those that a new check finds in use.
func (s Session) releaseReported(ctx context.Context, store kv.KV, files []string, force bool) error {
	c, err := ipam.RunCheck(ctx, store, s.Now())
	if err != nil {
		return err
	}
	if err := c.Blind(); err != nil {
		return err
	}
	leaks, handles, err := s.acceptReports(c.Cluster, files, force)
	if err != nil {
		return err
	}
	if !c.Cluster.Locked {
		if !force {
			return errors.New("data store is not locked. Either lock the data store, or re-run with --force")
		}
		fmt.Fprintln(s.Stdout, "WARNING: Data store is not locked. Ignoring due to --force option")
	}
	if err := errors.Join(s.releaseLeaks(ctx, store, c, leaks), s.releaseHandles(ctx, store, c, handles)); err != nil {
		return hints.With(err, "the others are unchanged: correct the cause, make a new report with margayctl ipam check -o FILE, and release from that")
	}
	fmt.Fprintln(s.Stdout, "You may now unlock the data store.")
	return nil
}

// acceptReports returns the leaks and handles that all reports name. It refuses reports of another datastore, reports of
// another version unless forced, and reports that are all older than the last change of the lock. The texts are calicoctl's.
func (s Session) acceptReports(cluster ipam.Cluster, files []string, force bool) ([]ipam.Leak, []ipam.Handle, error) {
	version := s.Version()
	current := false
	var leaks map[ipam.Leak]bool
	var handles map[ipam.Handle]bool
	for i, file := range files {
		r, err := readReport(file)
		if err != nil {
			return nil, nil, err
		}
		if r.ClusterGUID != cluster.GUID {
			return nil, nil, fmt.Errorf("cluster does not match the provided report (%s): mismatched cluster GUID. Refusing to release", file)
		}
		if r.Version != version && !force {
			return nil, nil, fmt.Errorf("the provided report (%s) was produced using a different version (%s) of calicoctl. Refusing to release", file, r.Version)
		} else if r.Version != version {
			fmt.Fprintln(s.Stdout, "WARNING: Report was produced using a different version of calicoctl. Ignoring due to --force option")
		}
		current = current || r.ClusterRevision == cluster.Revision
		itsLeaks, itsHandles, err := r.leaks(file)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			leaks, handles = itsLeaks, itsHandles
		}
		maps.DeleteFunc(leaks, func(leak ipam.Leak, _ bool) bool { return !itsLeaks[leak] })
		maps.DeleteFunc(handles, func(handle ipam.Handle, _ bool) bool { return !itsHandles[handle] })
	}
	if !current {
		return nil, nil, errors.New("the provided reports are all stale - at least one should be up-to-date. " +
			"Please generate a new report while the data store is locked and try again")
	}
	return slices.SortedFunc(maps.Keys(leaks), func(a, b ipam.Leak) int { return a.Addr.Compare(b.Addr) }),
		slices.SortedFunc(maps.Keys(handles), func(a, b ipam.Handle) int { return strings.Compare(a.ID, b.ID) }), nil
}

func (s Session) releaseLeaks(ctx context.Context, store kv.KV, c *ipam.Check, leaks []ipam.Leak) error {
	if len(leaks) == 0 {
		fmt.Fprintln(s.Stdout, "Report didn't contain any leaked IPs to clean up.")
		return nil
	}
	fmt.Fprintf(s.Stdout, "Releasing %d old IPs...\n", len(leaks))
	freed, err := c.ReleaseLeaks(ctx, store, leaks)
	fmt.Fprintf(s.Stdout, "Released %d IPs successfully\n", len(freed.Released))
	if n := len(freed.Gone); n > 0 {
		fmt.Fprintf(s.Stdout, "%d addresses marked as leaked in the report had already been cleaned up.\n", n)
	}
	for _, addr := range freed.Kept {
		fmt.Fprintf(s.Stdout, "%v stays allocated: it has a new owner since the report, or is in use now.\n", addr)
	}
	if err != nil {
		left := len(leaks) - len(freed.Released) - len(freed.Gone) - len(freed.Kept)
		return fmt.Errorf("%d of %d addresses are not released: %w", left, len(leaks), err)
	}
	return nil
}

func (s Session) releaseHandles(ctx context.Context, store kv.KV, c *ipam.Check, handles []ipam.Handle) error {
	if len(handles) == 0 {
		fmt.Fprintln(s.Stdout, "Report didn't contain any handles to clean up.")
		return nil
	}
	fmt.Fprintf(s.Stdout, "Deleting %d handles...\nKey: '.' = Deleted OK; 'x' = skip, handle missing/changed.\n", len(handles))
	var released, skipped int
	var failures []error
	for _, handle := range handles {
		switch done, err := c.ReleaseHandle(ctx, store, handle); {
		case err != nil:
			failures = append(failures, err)
		case done:
			released++
			fmt.Fprint(s.Stdout, ".")
		default:
			skipped++
			fmt.Fprint(s.Stdout, "x")
		}
	}
	fmt.Fprintf(s.Stdout, "\nReleased %d handles; %d skipped; %d errors.\n", released, skipped, len(failures))
	return errors.Join(failures...)
}
