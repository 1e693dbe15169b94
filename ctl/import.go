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

const importHelp = `Write what datastore migrate export printed, ours or calicoctl's, into another datastore.

Everything is looked at before anything is written: nothing is ever overwritten, and the datastore must hold nothing but what
every new one does. With --merge other objects may be there: they stay, and so does the identity of the datastore.
The datastore is locked from the first write on, so that no agent acts on half of it, and stays so until datastore migrate unlock.
An import that was interrupted is completed by running it again.

Objects keep their uid and time of creation; those of a file of calicoctl, which has none, get new ones.`

func newImport(s *session) *cobra.Command {
	var file string
	var merge bool
	cmd := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Write what export printed into another datastore",
		Long:  importHelp,
		Example: `  ETCD_ENDPOINTS=https://etcd-new:2379 margayctl datastore migrate import -f calico.export
  ETCD_ENDPOINTS=https://etcd-new:2379 margayctl datastore migrate unlock`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("say which file: -f FILE, or -f - for standard input")
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
		"The datastore is locked. Look at it with margayctl get, let the agents use it, and then run\n"+
		"margayctl datastore migrate unlock.\n", done.Written, done.Already)
	return nil
}
