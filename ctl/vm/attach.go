package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/workload"
)

// attachment holds the flags of vm attach and vm detach.
type attachment struct {
	node, file, uri string
	out             workload.Output
}

func newAttach(s Session) *cobra.Command {
	var f attachment
	cmd := &cobra.Command{
		Use:   "attach DOMAIN",
		Short: "Make the WorkloadEndpoints of a domain's interfaces",
		Long: `Make the WorkloadEndpoints of a running domain's interfaces, as its XML and its <metadata> say, with their addresses, in one
transaction. Endpoints of interfaces that the domain no longer has are removed. The same command again changes nothing.

The XML comes from virsh dumpxml, or from --xml.`,
		Example: `  margayctl vm attach web
  virsh dumpxml web | margayctl vm attach web --xml - --dry-run -o yaml`,
		Args:              arguments.Exactly(1, "DOMAIN"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.out.Check(); err != nil {
				return err
			}
			d, err := s.domain(cmd.Context(), args[0], &f)
			if err != nil {
				return err
			}
			return s.attach(cmd.Context(), d, &f)
		},
	}
	cmd.Flags().StringVar(&f.file, "xml", "", "file with the domain's XML; - is standard input")
	cmd.Flags().StringVar(&f.uri, "connect", "", "address of libvirt, as for virsh --connect (default that of virsh)")
	_ = cmd.MarkFlagFilename("xml", "xml")
	addNodeFlag(s, cmd, &f.node)
	f.out.AddFlags(cmd)
	return cmd
}

func newDetach(s Session) *cobra.Command {
	var f attachment
	cmd := &cobra.Command{
		Use:   "detach DOMAIN",
		Short: "Remove the WorkloadEndpoints of a domain, and give its addresses back",
		Long: `Remove the WorkloadEndpoints that margayctl vm has made for a domain on this node, and give their addresses back, in one transaction.
The domain need not exist any more. It is no error if there are no endpoints.`,
		Example:           `  margayctl vm detach web`,
		Args:              arguments.Exactly(1, "DOMAIN"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.out.Check(); err != nil {
				return err
			}
			outcomes, err := s.detach(cmd.Context(), args[0], &f)
			if err == nil && len(outcomes) == 0 {
				fmt.Fprintf(s.Stderr, "domain %s has no endpoints here\n", args[0])
				return nil
			}
			if err != nil {
				return err
			}
			return s.Report(outcomes, f.out)
		},
	}
	addNodeFlag(s, cmd, &f.node)
	f.out.AddFlags(cmd)
	return cmd
}

// domain reads the XML of a domain from a file or from libvirt.
func (s Session) domain(ctx context.Context, name string, f *attachment) (*domain, error) {
	var from io.Reader
	switch f.file {
	case "":
		text, err := s.DumpXML(ctx, f.uri, name)
		if err != nil {
			return nil, err
		}
		from = bytes.NewReader(text)
	case "-":
		from = s.Stdin
	default:
		file, err := os.Open(f.file)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	d, err := readDomain(from)
	if err == nil && d.name != name {
		err = fmt.Errorf("the XML is that of domain %s, not of %s", d.name, name)
	}
	return d, err
}

func (s Session) attach(ctx context.Context, d *domain, f *attachment) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	outcomes, err := s.put(ctx, st, d, f)
	if err != nil {
		return err
	}
	if err := s.Report(outcomes, f.out); err != nil {
		return err
	}
	s.Caution(ctx, st, outcomes)
	return nil
}

// put makes the endpoints of a domain, and removes those that it no longer has.
func (s Session) put(ctx context.Context, st workload.Store, d *domain, f *attachment) ([]workload.Outcome, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	node, err := s.nodeOf(ctx, st, f.node)
	if err != nil {
		return nil, err
	}
	return s.Write(ctx, st, workload.Set{Maker: api.MadeByVM, Remove: isOf(d.name, node), Make: func(stored []*api.WorkloadEndpoint) ([]workload.Wanted, error) {
		return d.make(node, stored)
	}}, f.out.Dry())
}

// make returns the endpoints of a domain on a node. It refuses those of another domain.
func (d *domain) make(node string, all []*api.WorkloadEndpoint) ([]workload.Wanted, error) {
	stored := slices.DeleteFunc(slices.Clone(all), func(ep *api.WorkloadEndpoint) bool {
		return ep.Annotations[api.MadeByAnnotation] != api.MadeByVM || ep.Namespace != d.metadata.namespace || ep.Spec.Workload != d.workload()
	})
	wanted, err := d.wanted(node, stored)
	if err != nil {
		return nil, err
	}
	for _, ep := range stored {
		for _, w := range wanted {
			if other := ep.Annotations[api.DomainAnnotation]; api.KeyOf(ep) == api.KeyOf(w.Endpoint) && other != d.name {
				return nil, hints.With(fmt.Errorf("%v belongs to domain %s", api.KeyOf(ep), other),
					fmt.Sprintf(`give the workload of domain %s another name, <workload name="...">, or detach the other domain`, d.name))
			}
		}
	}
	return wanted, nil
}

// isOf chooses the endpoints that this command has made for a domain on a node.
func isOf(name, node string) func(*api.WorkloadEndpoint) bool {
	return func(ep *api.WorkloadEndpoint) bool {
		return ep.Annotations[api.MadeByAnnotation] == api.MadeByVM && ep.Annotations[api.DomainAnnotation] == name && ep.Spec.Node == node
	}
}

func (s Session) detach(ctx context.Context, name string, f *attachment) ([]workload.Outcome, error) {
	if name == "" {
		return nil, errors.New("the name of the domain is empty")
	}
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer closeStore()
	node, err := s.nodeOf(ctx, st, f.node)
	if err != nil {
		return nil, err
	}
	return s.Write(ctx, st, workload.Set{Maker: api.MadeByVM, Remove: isOf(name, node)}, f.out.Dry())
}
