package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/cni"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/vm"
	"github.com/margay-project/margay/ctl/workload"
)

const rootHelp = `margayctl edits Margay's objects and shows what each node enforces and announces.

Objects are manifests of projectcalico.org/v3 in an etcd datastore. margayctl takes the datastore from the first of these:
the file given by -c; ` + defaultConfig + ` if it exists; the environment (ETCD_ENDPOINTS and so on, as for
calicoctl); the etcd that felix embeds on this machine, if its socket ` + embeddedSocket + ` exists.

dump and status ask the agent of this node instead. They need no datastore.`

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "margayctl",
		Short: "Edit Margay's objects and see what each node enforces",
		Long:  rootHelp,
		Example: `  margayctl apply -f docs/examples/tiers.yaml
  margayctl get gnp -o wide
  margayctl status`,
		Args:              arguments.NoSuchCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.prepare(cmd) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(s.stdin)
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&s.config, "config", "c", defaultConfig, "file with the address and credentials of the datastore")
	s.logLevel = "panic"
	flags.VarP(levelOrSelector{s}, "log-level", "l", "panic, fatal, error, warn, info or debug")
	flags.StringVar(&s.kubeContext, "context", "", "accepted for scripts of calicoctl; has no effect, because Margay does not use Kubernetes")
	flags.BoolVar(&s.allowVersionMismatch, "allow-version-mismatch", false,
		"accepted for scripts of calicoctl; has no effect, because versions are not compared")
	root.AddCommand(
		newCreate(s), newApply(s), newReplace(s), newPatch(s), newEdit(s), newLabel(s), newDelete(s), newGet(s), newDiff(s), newValidate(s), newSchema(s),
		newStatus(s), newDump(s), newFelix(s), newDatastore(s), newIPAM(s), workload.New(s.workloads()), vm.New(s.vms()), cni.New(s.containers()), newNode(s), newCluster(),
		newVersion(s), newCompletion(s), newDocs(s),
	)
	return root
}

// prepare acts on the flags that every verb has.
func (s *session) prepare(cmd *cobra.Command) error {
	level, err := logrus.ParseLevel(s.logLevel)
	if err != nil {
		return badLevel(s.logLevel)
	}
	s.log.Logger.SetLevel(level)
	return s.checkSelector(cmd)
}

func badLevel(text string) error {
	err := fmt.Errorf("log level %q: want panic, fatal, error, warn, info or debug", text)
	return hints.With(err, hints.DidYouMean(text, []string{"panic", "fatal", "error", "warn", "info", "debug"}))
}

// flagError adds to an error about a flag the nearest existing flag, and where the help is.
func flagError(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
		return arguments.NoSuchCommand(cmd, words) // the flag belongs to a verb that does not exist
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	hint := ""
	if unknown, ok := strings.CutPrefix(err.Error(), "unknown flag: "); ok {
		hint = hints.DidYouMean(unknown, names)
	}
	return hints.With(err, hint, "see "+cmd.CommandPath()+" --help")
}
