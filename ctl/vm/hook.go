package vm

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/hints"
)

// hook holds the flags of vm hook.
type hook struct {
	node    string
	timeout time.Duration
}

// defaultTimeout is the time that the datastore has to answer. A domain waits for it when it starts.
const defaultTimeout = 5 * time.Second

func (f *hook) addFlags(s Session, cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultTimeout, "how long the datastore may take: the domain waits for it when it starts")
	addNodeFlag(s, cmd, &f.node)
}

const hookHelp = `Act as libvirt's hook for QEMU. libvirt calls it with the name of the domain, the operation, and the domain's XML on standard input
(https://libvirt.org/hooks.html). "margayctl vm hook install" puts it into place.

Domains without Margay's element in their <metadata> are left alone, and the datastore is not asked about them.

  prepare                       refuse a domain whose element is wrong
  start                         make the endpoints; refuse the domain if that fails and its interfaces are open
  reconnect, attach             make the endpoints if they are missing: libvirt has started again
  release                       remove the endpoints, and give the addresses back
  started, stopped, migrate, restore    nothing

If the datastore does not answer within --timeout, a domain starts all the same if the agent of this machine says that it has closed
all its interfaces, as it does with those whose name begins with interfacePrefix. Nothing reaches the VM then, until "margayctl vm
attach" succeeds. Otherwise its packets would pass without policy, so the domain does not start.`

func newHook(s Session) *cobra.Command {
	var f hook
	cmd := &cobra.Command{
		Use:   "hook DOMAIN OPERATION SUBOPERATION [EXTRA]",
		Short: "Act as libvirt's hook for QEMU",
		Long:  hookHelp,
		Example: `  margayctl vm hook install
  virsh dumpxml web | margayctl vm hook web reconnect begin -`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 || len(args) > 4 {
				return hints.With(fmt.Errorf("want DOMAIN OPERATION SUBOPERATION [EXTRA], as libvirt calls a hook, got %d arguments", len(args)),
					"see "+cmd.CommandPath()+" --help")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.hook(cmd.Context(), args[0], args[1], &f)
		},
	}
	f.addFlags(s, cmd)
	cmd.AddCommand(newInstall(s), newUninstall(s))
	return cmd
}

// agentPatience is the time that the agent of this machine has to say which interfaces it has closed.
const agentPatience = 2 * time.Second

// hook does what an operation asks for. It ends in time also if a read or a connection hangs: the process ends with it.
func (s Session) hook(ctx context.Context, name, operation string, f *hook) error {
	result := make(chan error, 1)
	go func() { result <- s.act(ctx, name, operation, f) }()
	limit := time.NewTimer(f.timeout + agentPatience)
	defer limit.Stop()
	var err error
	select {
	case err = <-result:
	case <-limit.C:
		err = fmt.Errorf("domain %s, %s: no end within %v", name, operation, f.timeout+agentPatience)
	}
	if err != nil && !mayRefuse(operation) {
		// libvirt kills a running domain whose hook fails.
		fmt.Fprintf(s.Stderr, "%v\n%s\n", err, strings.Join(hints.Of(err), "\n"))
		return nil
	}
	return err
}

// mayRefuse says whether an error may keep a domain from starting.
func mayRefuse(operation string) bool {
	return operation == "prepare" || operation == "start" || operation == "release" // whose result libvirt does not read
}

func (s Session) act(ctx context.Context, name, operation string, f *hook) error {
	switch operation {
	case "prepare", "start", "reconnect", "attach", "release":
	case "started", "stopped", "migrate", "restore":
		_, err := io.Copy(io.Discard, s.Stdin) // libvirt writes the XML
		return err
	default:
		fmt.Fprintf(s.Stderr, "margayctl vm hook does not know the operation %q, and does nothing\n", operation)
		return nil
	}
	d, err := readDomain(s.Stdin)
	switch {
	case err != nil:
		return err
	case d.metadata == nil:
		return nil
	case operation == "release":
		return s.release(ctx, name, f)
	}
	if err := d.check(); err != nil || operation == "prepare" {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	err = s.open(limited, d, f)
	if err != nil && operation == "start" {
		return s.startWithout(ctx, d, err)
	}
	return err
}

// open makes the endpoints of a domain.
func (s Session) open(ctx context.Context, d *domain, f *hook) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	_, err = s.put(ctx, st, d, &attachment{node: f.node})
	return err
}

func (s Session) release(ctx context.Context, name string, f *hook) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	_, err := s.detach(ctx, name, &attachment{node: f.node})
	if err != nil {
		return hints.With(err, fmt.Sprintf("the endpoints of domain %s stay: margayctl vm detach %s removes them, and margayctl workload gc finds them", name, name))
	}
	return nil
}

// startWithout decides whether a domain may start although its endpoints could not be made: only if no packet of it can pass. The
// interfaces exist already. The agent sees them a moment later.
func (s Session) startWithout(ctx context.Context, d *domain, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	open := d.devices()
	for range 20 {
		judged, err := s.Judged(ctx)
		open = slices.DeleteFunc(open, func(device string) bool { return judged[device] })
		if err != nil || len(open) == 0 || s.Pause(ctx, 50*time.Millisecond) != nil {
			break
		}
	}
	again := fmt.Sprintf("when the cause is gone: margayctl vm attach %s", d.name)
	if len(open) == 0 {
		fmt.Fprintf(s.Stderr, "domain %s starts with its interfaces closed, because its endpoints could not be made: %v\n%s\n", d.name, cause, again)
		return nil
	}
	return hints.With(fmt.Errorf("domain %s does not start: its endpoints could not be made (%w), and its packets would pass without policy on %s",
		d.name, cause, strings.Join(open, ", ")), "felix closes such interfaces if interfacePrefix of FelixConfiguration names their beginning, such as vnet")
}

// devices returns the devices of the interfaces that must be under policy.
func (d *domain) devices() (list []string) {
	for _, n := range d.interfaces {
		if !d.termsOf(n).ignored {
			list = append(list, n.device)
		}
	}
	return list
}
