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

const exportHelp = `Print the whole content of the locked datastore, read at one revision, for datastore migrate import.

The file has the same three parts as calicoctl's, and calicoctl can read it: documents of the kinds that calicoctl exports, the
ClusterInformation, and the keys of IPAM. The last part has one more section, "others": objects that calicoctl leaves out, such
as profiles and workload endpoints, and details that the documents cannot express, such as fields of newer versions. Nodes
without Kubernetes are exported like all others. Only the reports that agents write about themselves are left out.`

func newExport(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the whole content of the datastore, for import",
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
		err = hints.With(err, "run margayctl datastore migrate lock first", "while the datastore is locked, the policy in force stays; margayctl datastore migrate unlock ends the lock")
	}
	if err != nil {
		return err
	}
	s.warnOfProblems(archive)
	return archive.Write(s.stdout)
}

// warnOfProblems warns of stored values that no agent can use. They are exported and imported like all others.
func (s *session) warnOfProblems(archive *datastore.Archive) {
	for _, problem := range archive.Problems() {
		fmt.Fprintf(s.stderr, "warning: %s: the value is kept as it is, and is not in force\n", problem)
	}
}
