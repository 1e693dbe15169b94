package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/workload"
)

// Session is the part of a run of margayctl that the plugin uses.
type Session struct {
	workload.Session
	// UseConfig has the datastore's address read from another configuration file.
	UseConfig func(path string)
	// Enforced says on which interfaces of this machine the agent has policy in force, by name.
	Enforced func(ctx context.Context) (map[string]bool, error)
	// Pause waits.
	Pause func(ctx context.Context, d time.Duration) error
	// Program returns the path of margayctl.
	Program func() (string, error)
}

// notAvailable is the code of an error of STATUS: the plugin cannot serve ADD now.
const notAvailable = 50

// policyPatience is how long ADD waits until the policy of a new interface is in force.
const policyPatience = 30 * time.Second

// run does what the environment of a CNI plugin asks for. Its answer is on standard output, also in case of an error.
func (s Session) run(ctx context.Context) error {
	with := func(do func(context.Context, *skel.CmdArgs, *conf, workload.Store, string) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return s.with(ctx, args, do) }
	}
	failure := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: with(s.add), Del: func(args *skel.CmdArgs) error {
			// The interface goes first, also if the datastore does not answer: without it nothing passes.
			return errors.Join(attachmentOf(args).unplug(), s.with(ctx, args, s.del))
		}, Check: with(s.check), GC: with(s.collect), Status: with(s.status),
	}, version.All, "margay-cni connects containers as workloads of Margay")
	if failure == nil {
		return nil
	}
	return errors.Join(failure.Print(), failed{})
}

// failed is the error of a plugin that has told its error already.
type failed struct{}

func (failed) Error() string { return "" }

// with reads the configuration and opens the datastore for a command.
func (s Session) with(ctx context.Context, args *skel.CmdArgs, do func(context.Context, *skel.CmdArgs, *conf, workload.Store, string) error) error {
	c, err := read(args)
	if err != nil {
		return err
	}
	if c.Config != "" {
		s.UseConfig(c.Config)
	}
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return withHints(err)
	}
	defer closeStore()
	node, err := s.nodeOf(ctx, st, c)
	if err != nil {
		return withHints(err)
	}
	return withHints(do(ctx, args, c, st, node))
}

// withHints adds what to do next to the text of an error: a runtime shows nothing else.
func withHints(err error) error {
	if err == nil || len(hints.Of(err)) == 0 {
		return err
	}
	return types.NewError(types.ErrInternal, err.Error(), fmt.Sprint(hints.Of(err)))
}

// add makes the endpoint and the interfaces of an attachment, and waits until its policy is in force. If a step fails, the former ones are
// undone.
func (s Session) add(ctx context.Context, args *skel.CmdArgs, c *conf, st workload.Store, node string) error {
	a := attachmentOf(args)
	wanted, err := a.wanted(c, node)
	if err != nil {
		return err
	}
	outcomes, err := s.Write(ctx, st, workload.Set{Maker: api.MadeByCNI, Wanted: []workload.Wanted{wanted}}, false)
	if err != nil {
		return err
	}
	networks := outcomes[0].Endpoint.Spec.IPNetworks
	if err = a.plug(args.Netns, networks, c.MTU); err == nil {
		if err = s.awaitPolicy(ctx, a); err != nil {
			err = errors.Join(err, a.unplug())
		}
	}
	if err != nil {
		_, undone := s.Write(context.WithoutCancel(ctx), st, s.removal(a, node), false)
		return errors.Join(err, undone)
	}
	result, err := a.result(args.Netns, networks, c.MTU)
	if err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

func (s Session) removal(a attachment, node string) workload.Set {
	return workload.Set{Maker: api.MadeByCNI, Remove: func(ep *api.WorkloadEndpoint) bool { return a.is(ep, node) }}
}

// awaitPolicy waits until the agent has the policy of the interface in force: a container that starts must have its network.
func (s Session) awaitPolicy(ctx context.Context, a attachment) error {
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	for {
		enforced, err := s.Enforced(ctx)
		if err == nil && enforced[a.device()] {
			return nil
		}
		if s.Pause(ctx, 20*time.Millisecond) != nil {
			if err == nil {
				err = errors.New("the agent has it not in force")
			}
			return fmt.Errorf("the policy of %s (%v) is not in force after %v: %w: margayctl status says why", a.device(), a, policyPatience, err)
		}
	}
}

func (a attachment) result(namespace string, networks []string, mtu int) (*types100.Result, error) {
	v4, v6, err := split(networks)
	if err != nil {
		return nil, err
	}
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.device(), Mac: hostMAC.String(), Mtu: mtu},
			{Name: a.ifname, Mac: a.mac().String(), Mtu: mtu, Sandbox: namespace},
		},
	}
	give := func(networks []*net.IPNet, gateway net.IP, everywhere net.IPNet) {
		for _, n := range networks {
			r.IPs = append(r.IPs, &types100.IPConfig{Interface: types100.Int(1), Address: *n, Gateway: gateway})
		}
		if len(networks) > 0 {
			r.Routes = append(r.Routes, &types.Route{Dst: everywhere, GW: gateway})
		}
	}
	give(v4, gateway4, net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)})
	give(v6, gateway6, net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)})
	return r, nil
}

// del removes the endpoint of an attachment. It is no error if that is gone.
func (s Session) del(ctx context.Context, args *skel.CmdArgs, _ *conf, st workload.Store, node string) error {
	_, err := s.Write(ctx, st, s.removal(attachmentOf(args), node), false)
	return err
}

// check says whether an attachment is as ADD has made it.
func (s Session) check(ctx context.Context, args *skel.CmdArgs, _ *conf, st workload.Store, node string) error {
	a := attachmentOf(args)
	ep, err := s.endpointOf(ctx, st, a, node)
	if err != nil {
		return err
	}
	if err := a.has(args.Netns, ep.Spec.IPNetworks); err != nil {
		return err
	}
	enforced, err := s.Enforced(ctx)
	if err == nil && !enforced[a.device()] {
		err = fmt.Errorf("the policy of %s is not in force: margayctl status says why", a.device())
	}
	return err
}

func (s Session) endpointOf(ctx context.Context, st workload.Store, a attachment, node string) (*api.WorkloadEndpoint, error) {
	objects, _, err := st.List(ctx, api.KindWorkloadEndpoint, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if ep, ok := o.(*api.WorkloadEndpoint); ok && a.is(ep, node) {
			return ep, nil
		}
	}
	return nil, fmt.Errorf("no WorkloadEndpoint for %v: remove the container and make it again", a)
}

// collect removes what attachments of this network have left behind that the runtime does not list.
func (s Session) collect(ctx context.Context, _ *skel.CmdArgs, c *conf, st workload.Store, node string) error {
	leftOver := func(ep *api.WorkloadEndpoint) bool {
		valid := slices.Contains(c.ValidAttachments, types.GCAttachment{ContainerID: ep.Spec.ContainerID, IfName: ep.Spec.Endpoint})
		return isOurs(ep, node) && ep.Annotations[api.NetworkAnnotation] == c.Name && !valid
	}
	outcomes, err := s.Write(ctx, st, workload.Set{Maker: api.MadeByCNI, Remove: leftOver}, false)
	for _, o := range outcomes {
		err = errors.Join(err, attachment{o.Endpoint.Spec.ContainerID, o.Endpoint.Spec.Endpoint}.unplug())
	}
	return err
}

// status says whether ADD can succeed: the datastore has answered already, and the agent must.
func (s Session) status(ctx context.Context, _ *skel.CmdArgs, _ *conf, _ workload.Store, _ string) error {
	if _, err := s.Enforced(ctx); err != nil {
		return types.NewError(notAvailable, "felix does not answer on this host", err.Error())
	}
	return nil
}
