package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
)

const exportHelp = `Print everything that the locked datastore holds, as it is at one moment, for datastore migrate import.

The file has the three parts of calicoctl's: documents of the kinds that calicoctl exports, the ClusterInformation, and the keys
of IPAM. calicoctl can read it. What calicoctl leaves out, such as profiles and workload endpoints, and what the documents cannot
say, such as fields of newer versions, stands under "others" in the last part. Nothing is asked of the Nodes: hosts without
Kubernetes are exported like all others. Only the reports that agents write about themselves are left out.`

func newExport(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print everything that the datastore holds, for import",
		Long:  exportHelp,
		Example: `  margayctl datastore migrate lock
  margayctl datastore migrate export > calico.export`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.export(cmd.Context()) },
	}
}

func (s *session) export(ctx context.Context) error {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	archive, err := st.Export(ctx)
	if errors.Is(err, datastore.ErrUnlocked) {
		err = hints.With(err, "run margayctl datastore migrate lock first", "agents go on enforcing what they enforce while it is locked; margayctl datastore migrate unlock ends it")
	}
	if err != nil {
		return err
	}
	s.warnOfProblems(archive)
	return archive.Write(s.stdout)
}

// warnOfProblems names the objects that no agent takes: they move like all others.
func (s *session) warnOfProblems(archive *datastore.Archive) {
	for _, problem := range archive.Problems() {
		fmt.Fprintf(s.stderr, "warning: %s: it is kept as it is, and is not in force\n", problem)
	}
}
