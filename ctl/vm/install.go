package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

const (
	// hooksDirectory has the hooks that libvirt 6.5 and newer run for QEMU, besides /etc/libvirt/hooks/qemu.
	hooksDirectory = "/etc/libvirt/hooks/qemu.d"
	hookName       = "50-margay"
	hookMark       = "# Made by margayctl vm hook install."
)

func newInstall(s Session) *cobra.Command {
	var directory string
	var f hook
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have libvirt call margayctl when a domain starts and stops",
		Long: `Have libvirt call margayctl when a domain starts and stops: write ` + hooksDirectory + `/` + hookName + `. Other hooks stay.
-c, --node and --timeout become part of the hook. libvirt looks for hooks only when it starts: restart it once after the first hook of the
machine. Domains go on running.`,
		Example: `  margayctl vm hook install && systemctl restart libvirtd
  margayctl -c /etc/margay/etcd.yaml vm hook install --node host1`,
		Args: arguments.None,
		RunE: func(*cobra.Command, []string) error { return s.install(directory, f) },
	}
	cmd.Flags().StringVar(&directory, "directory", hooksDirectory, "where libvirt looks for hooks")
	_ = cmd.MarkFlagDirname("directory")
	f.addFlags(s, cmd)
	return cmd
}

func newUninstall(s Session) *cobra.Command {
	var directory string
	cmd := &cobra.Command{
		Use:     "uninstall",
		Short:   "Remove the hook that install has written",
		Example: "  margayctl vm hook uninstall",
		Args:    arguments.None,
		RunE:    func(*cobra.Command, []string) error { return s.uninstall(directory) },
	}
	cmd.Flags().StringVar(&directory, "directory", hooksDirectory, "where libvirt looks for hooks")
	_ = cmd.MarkFlagDirname("directory")
	return cmd
}

func (s Session) install(directory string, f hook) error {
	program, err := s.Program()
	if err != nil {
		return err
	}
	path := filepath.Join(directory, hookName)
	if err := refuseOthersHook(path); err != nil {
		return err
	}
	command := []string{quoted(program)}
	if config := s.Config(); config != "" {
		if config, err = filepath.Abs(config); err != nil {
			return err
		}
		command = append(command, "-c", quoted(config))
	}
	command = append(command, "vm", "hook")
	if f.node != "" {
		command = append(command, "--node", quoted(f.node))
	}
	if f.timeout != defaultTimeout {
		command = append(command, "--timeout", f.timeout.String())
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	text := "#!/bin/sh\n" + hookMark + "\nexec " + strings.Join(command, " ") + ` "$@"` + "\n"
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o755); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil { // libvirt may run the former one now
		return errors.Join(err, os.Remove(next))
	}
	fmt.Fprintf(s.Stdout, "%s is installed. If it is the first hook of this machine, libvirt must look for it: systemctl restart libvirtd (or virtqemud)\n", path)
	return nil
}

func (s Session) uninstall(directory string) error {
	path := filepath.Join(directory, hookName)
	if err := refuseOthersHook(path); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.Stdout, "%s does not exist\n", path)
		return nil
	}
	if err == nil {
		fmt.Fprintf(s.Stdout, "%s is removed. Endpoints stay: margayctl vm detach DOMAIN removes them\n", path)
	}
	return err
}

// refuseOthersHook returns an error if a file exists that install has not written.
func refuseOthersHook(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !strings.Contains(string(text), hookMark) {
		err = hints.With(fmt.Errorf("%s was not made by margayctl, so it is left alone", path), "move it away, or have it call margayctl vm hook \"$@\" itself")
	}
	return err
}

// quoted returns a text as one word for the shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
