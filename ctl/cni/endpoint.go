package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/workload"
)

// orchestrator is part of the names of these endpoints, as of those that Calico's plugin makes outside of Kubernetes.
const orchestrator = "cni"

// attachment is one interface of one container.
type attachment struct {
	container, ifname string
}

func attachmentOf(args *skel.CmdArgs) attachment { return attachment{args.ContainerID, args.IfName} }

func (a attachment) String() string { return fmt.Sprintf("%s of container %s", a.ifname, a.container) }

func (a attachment) sum() [32]byte { return sha256.Sum256([]byte(a.container + "\x00" + a.ifname)) }

// device is the name of the interface on the host. 15 characters is the longest that a name can be.
func (a attachment) device() string {
	sum := a.sum()
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

// mac is the address of the container's interface: a local one (IEEE 802, bit 0x02) that a repeated ADD finds again.
func (a attachment) mac() net.HardwareAddr {
	sum := a.sum()
	return append(net.HardwareAddr{0x02}, sum[16:21]...)
}

// is says whether an endpoint of a node is this attachment's.
func (a attachment) is(ep *api.WorkloadEndpoint, node string) bool {
	return isOurs(ep, node) && ep.Spec.ContainerID == a.container && ep.Spec.Endpoint == a.ifname
}

func isOurs(ep *api.WorkloadEndpoint, node string) bool {
	return ep.Annotations[api.MadeByAnnotation] == api.MadeByCNI && ep.Spec.Orchestrator == orchestrator && ep.Spec.Node == node
}

// wanted returns the endpoint of an attachment.
func (a attachment) wanted(c *conf, node string) (workload.Wanted, error) {
	ep := &api.WorkloadEndpoint{
		TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint, APIVersion: api.APIVersion},
		Metadata: api.Metadata{Namespace: c.Namespace, Labels: c.labels(), Annotations: map[string]string{api.NetworkAnnotation: c.Name}},
		Spec: api.WorkloadEndpointSpec{
			Node: node, Orchestrator: orchestrator, ContainerID: a.container, Endpoint: a.ifname,
			InterfaceName: a.device(), MAC: a.mac().String(), Profiles: c.Profiles,
		},
	}
	var err error
	if ep.Name, err = api.WorkloadEndpointName(ep.Spec); err != nil {
		return workload.Wanted{}, err
	}
	request := c.request()
	return workload.Wanted{Endpoint: ep, Request: &request}, nil
}

// nodeOf returns the node that the configuration names, or else that of this machine.
func (s Session) nodeOf(ctx context.Context, st workload.Store, c *conf) (string, error) {
	if c.Node != "" {
		return c.Node, nil
	}
	return s.NodeHere(ctx, st)
}
