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

const importHelp = `Write the output of datastore migrate export, of margayctl or calicoctl, into another datastore.

The whole file is checked before anything is written, and nothing is ever overwritten. The datastore must be new: it may hold
only the objects that every new datastore has. With --merge it may hold other objects; they stay, and the datastore keeps its
identity. The datastore is locked from the first write on, so that no agent acts on half of the import. It stays locked until
datastore migrate unlock. If an import is interrupted, run it again to complete it.

Objects keep their uid and creationTimestamp. A file of calicoctl has neither, so its objects get new ones.`

func newImport(s *session) *cobra.Command {
	var file string
	var merge bool
	cmd := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Write the output of export into another datastore",
		Long:  importHelp,
		Example: `  ETCD_ENDPOINTS=https://etcd-new:2379 margayctl datastore migrate import -f calico.export
  ETCD_ENDPOINTS=https://etcd-new:2379 margayctl datastore migrate unlock`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("no file is named: give -f FILE, or -f - for standard input")
			}
			return s.importFile(cmd.Context(), file, merge)
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file that export wrote, - for standard input")
	cmd.Flags().BoolVar(&merge, "merge", false, "the datastore may hold other objects; they stay")
	return cmd
}

func (s *session) importFile(ctx context.Context, file string, merge bool) error {
	text, err := s.read(file)
	if err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	archive, err := datastore.ReadArchive(text)
	if err != nil {
		return hints.With(fmt.Errorf("%s: %w", file, err), "nothing was written")
	}
	s.warnOfProblems(archive)
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	done, err := st.Import(ctx, archive, merge)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Datastore information successfully imported. %d keys were written, %d were there already.\n"+
		"The datastore is locked. Check it with margayctl get, point the agents at it, and then run\n"+
		"margayctl datastore migrate unlock.\n", done.Written, done.Already)
	return nil
}
