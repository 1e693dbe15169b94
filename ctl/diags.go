package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
)

const diagsHelp = `Collect in one file the information that helps to find a fault on this node: the agent's status, tables, calculated state,
goroutines and settings; versions; links, addresses, routes, nftables rules and BPF programs of the kernel; the agent's journal;
and the files of the log directory.

Passwords, tokens and private keys are removed. Addresses, names and policies stay in the file: read it before you pass it on.
If the agent does not answer, the rest is collected. missing.txt lists the parts that could not be collected.

The last line of the output says where the file is.`

func newDiags(s *session) *cobra.Command {
	var logs string
	cmd := &cobra.Command{
		Use:     "diags",
		Short:   "Collect diagnostics of this node in a file",
		Long:    diagsHelp,
		Example: "  margayctl node diags\n  margayctl node diags --log-dir /var/log/margay",
		Args:    arguments.None,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.diags(cmd.Context(), logs) },
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVar(&logs, "log-dir", "/var/log/calico", "also collect the files of this directory, if it exists")
	return cmd
}

func (s *session) diags(ctx context.Context, logs string) (err error) {
	directory := s.getenv("TMPDIR")
	if directory == "" {
		directory = os.TempDir()
	}
	path := filepath.Join(directory, "margay-diags-"+s.now().UTC().Format("20060102-150405")+".tar.gz")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the file for the diagnostics: %w: choose another directory with TMPDIR", err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			os.Remove(path) // an archive that is cut off cannot be read
		}
	}()
	fmt.Fprintln(s.stdout, "Collecting diagnostics")
	compressed := gzip.NewWriter(file)
	d := &diagnosis{out: tar.NewWriter(compressed), now: s.now()}
	s.askForDiagnosis(ctx, d)
	s.host.diagnose(ctx, d, s.config, logs)
	d.add("missing.txt", d.missing.Bytes())
	if err := errors.Join(d.err, d.out.Close(), compressed.Close(), ctx.Err()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if d.missing.Len() > 0 {
		fmt.Fprintf(s.stdout, "Some parts could not be collected:\n%s", d.missing.String())
	}
	fmt.Fprintf(s.stdout, "Diags saved to %s\n", path)
	return nil
}

// askForDiagnosis collects the agent's answers.
func (s *session) askForDiagnosis(ctx context.Context, d *diagnosis) {
	v, c := stamp()
	d.add("margayctl.txt", fmt.Appendf(nil, "Client Version:    %s\nGit commit:        %s\nTime:              %s\n", v, c, s.now().UTC().Format(time.RFC3339)))
	ask := func(name string, call func(context.Context, agentv1.AgentClient) (proto.Message, error)) bool {
		err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
			answer, err := call(ctx, agent)
			if err != nil {
				return err
			}
			var text bytes.Buffer
			err = print.Message(&text, answer, "json")
			d.add(name, text.Bytes())
			return err
		})
		if err != nil {
			d.miss(name, err)
		}
		return err == nil
	}
	if !ask("agent/status.json", func(ctx context.Context, agent agentv1.AgentClient) (proto.Message, error) {
		return agent.Status(ctx, &agentv1.StatusRequest{})
	}) {
		return // it would not answer the other requests either
	}
	ask("agent/dump.json", func(ctx context.Context, agent agentv1.AgentClient) (proto.Message, error) {
		return agent.Dump(ctx, &agentv1.DumpRequest{IdlePolicies: true})
	})
	ask("agent/system.json", func(ctx context.Context, agent agentv1.AgentClient) (proto.Message, error) {
		return agent.CheckSystem(ctx, &agentv1.CheckSystemRequest{})
	})
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Diagnose(ctx, &agentv1.DiagnoseRequest{})
		for _, file := range answer.GetFiles() {
			d.add("agent/"+filepath.Base(file.Name), file.Content)
		}
		return err
	})
	if err != nil {
		d.miss("agent/", err)
	}
}

// diagnosis is the archive under construction.
type diagnosis struct {
	out     *tar.Writer
	now     time.Time
	missing bytes.Buffer
	err     error // the first write error; nothing is written after it
}

// add writes a file into the archive, without its secrets.
func (d *diagnosis) add(name string, content []byte) {
	if d.err != nil {
		return
	}
	content = withoutSecrets(content)
	d.err = d.out.WriteHeader(&tar.Header{Name: "margay-diags/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: d.now, Format: tar.FormatPAX})
	if d.err == nil {
		_, d.err = d.out.Write(content)
	}
}

// miss notes a part that could not be collected, for missing.txt.
func (d *diagnosis) miss(name string, err error) { fmt.Fprintf(&d.missing, "%s: %v\n", name, err) }
