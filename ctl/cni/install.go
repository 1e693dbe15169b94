package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

// Name is the name by which runtimes call the plugin.
const Name = "margay-cni"

const defaultDirectory = "/opt/cni/bin"

// New returns the command cni with its own commands.
func New(s Session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "Connect containers of podman, containerd or Nomad as workloads",
		Long: `Connect containers of podman, containerd or Nomad as workloads, by the Container Network Interface (CNI 1.1). margayctl is the plugin when
it is called by the name margay-cni. docs/vms.md has a network configuration to paste.`,
		Example: `  margayctl cni install
  margayctl cni uninstall`,
		Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInstall(s), newUninstall(s), newRun(s))
	return cmd
}

// newRun is the plugin itself. margayctl runs it when it is called by the plugin's name.
func newRun(s Session) *cobra.Command {
	return &cobra.Command{
		Use: "run", Hidden: true, Args: arguments.None, Short: "Act as the plugin, as the environment says",
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
}

func newInstall(s Session) *cobra.Command {
	var directory string
	cmd := &cobra.Command{
		Use:     "install",
		Short:   "Put the plugin into the directory of CNI plugins",
		Long:    "Put the plugin into the directory of CNI plugins, as a link to margayctl. A file that is no such link is left alone.",
		Example: "  margayctl cni install\n  margayctl cni install --directory /usr/lib/cni",
		Args:    arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := s.Program()
			if err != nil {
				return err
			}
			path := filepath.Join(directory, Name)
			if err := checkLink(path); err != nil {
				return err
			}
			if err := os.MkdirAll(directory, 0o755); err != nil {
				return err
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Symlink(program, path); err != nil {
				return err
			}
			fmt.Fprintf(s.Stdout, "%s is a link to %s\n", path, program)
			return nil
		},
	}
	addDirectoryFlag(cmd, &directory)
	return cmd
}

func newUninstall(s Session) *cobra.Command {
	var directory string
	cmd := &cobra.Command{
		Use:     "uninstall",
		Short:   "Remove the plugin from the directory of CNI plugins",
		Example: "  margayctl cni uninstall",
		Args:    arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := filepath.Join(directory, Name)
			if err := checkLink(path); err != nil {
				return err
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			fmt.Fprintf(s.Stdout, "%s is removed\n", path)
			return nil
		},
	}
	addDirectoryFlag(cmd, &directory)
	return cmd
}

func addDirectoryFlag(cmd *cobra.Command, directory *string) {
	cmd.Flags().StringVar(directory, "directory", defaultDirectory, "directory of CNI plugins")
	_ = cmd.MarkFlagDirname("directory")
}

// checkLink refuses a path with something else than a link.
func checkLink(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err == nil {
		err = hints.With(fmt.Errorf("%s is no link that margayctl has made, so it is left alone", path), "remove it, or give another directory with --directory")
	}
	return err
}
