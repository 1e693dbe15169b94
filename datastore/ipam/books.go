package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// books are everything that says whose an address is, as of one revision of the datastore.
type books struct {
	revision int64
	cluster  Cluster
	blocks   []*heldBlock // in the order of their keys
	claims   []bookedClaim
	handles  []*handleState // in the order of their names
	pools    []bookedPool
	reserved []netip.Prefix
	nodes    map[string]bool
	tunnels  []Use // addresses that nodes have for their tunnels
	workload []Use // addresses that workload endpoints have

	unreadable []string       // what is stored and cannot be read, in sentences
	closed     []netip.Prefix // blocks that cannot be read: nobody knows who is in them
	illegible  []string       // handles that cannot be read
	blind      []string       // nodes and workload endpoints that cannot be read: nobody knows what they have
}

// Cluster is what the datastore says of itself.
type Cluster struct {
	GUID     string
	Type     string
	Revision string // of this information
	Locked   bool
}

// Use is an address that something has, whether or not IPAM knows.
type Use struct {
	Addr  netip.Addr
	Owner string
}

// bookedClaim is a node's or a virtual owner's claim on a block.
type bookedClaim struct {
	owner string // as blocks spell it: host:NODE, virtual:OWNER
	cidr  netip.Prefix
	state string
}

type bookedPool struct {
	cidr     netip.Prefix
	disabled bool
}

const (
	resources       = "/calico/resources/v3/projectcalico.org/"
	poolRoot        = resources + "ippools/"
	reservationRoot = resources + "ipreservations/"
	nodeRoot        = resources + "nodes/"
	workloadRoot    = resources + "workloadendpoints/"
	clusterKey      = resources + "clusterinformations/default"
)

// readBooks reads everything at one revision. A datastore that forgets the revision meanwhile is read anew.
func readBooks(ctx context.Context, store kv.KV) (*books, error) {
	for range attempts {
		b := &books{nodes: map[string]bool{}}
		err := b.read(ctx, store)
		if errors.Is(err, kv.ErrCompacted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read what IPAM keeps: %w", err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("read what IPAM keeps: the datastore forgets faster than it can be read: %w", kv.ErrCompacted)
}

func (b *books) read(ctx context.Context, store kv.KV) error {
	for _, part := range []struct {
		span kv.Span
		take func(kv.Entry)
	}{
		{kv.Single(clusterKey), b.takeCluster},
		{kv.Single(configKey), b.takeConfig},
		{kv.Prefix(BlockRoot), b.takeBlock},
		{kv.Prefix(AffinityRoot), b.takeClaim},
		{kv.Prefix(virtualRoot), b.takeClaim},
		{kv.Prefix(handleRoot), b.takeHandle},
		{kv.Prefix(poolRoot), b.takePool},
		{kv.Prefix(reservationRoot), b.takeReservation},
		{kv.Prefix(nodeRoot), b.takeNode},
		{kv.Prefix(workloadRoot), b.takeWorkload},
	} {
		revision, err := kv.Each(ctx, store, part.span, b.revision, func(page kv.Page) error {
			for _, entry := range page.Entries {
				part.take(entry)
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.revision = revision
	}
	b.reserved = withoutNested(b.reserved)
	return nil
}

func (b *books) cannotRead(entry kv.Entry, err error) {
	b.unreadable = append(b.unreadable, fmt.Sprintf("%s: %v", entry.Key, err))
}

func (b *books) takeCluster(entry kv.Entry) {
	o, err := api.DecodeStored(api.KindClusterInformation, entry.Value)
	if err != nil {
		b.cannotRead(entry, err)
		return
	}
	information := o.(*api.ClusterInformation)
	b.cluster = Cluster{
		GUID: information.Spec.ClusterGUID, Type: information.Spec.ClusterType,
		Revision: strconv.FormatInt(entry.Revision, 10), Locked: information.Locked(),
	}
}

func (b *books) takeConfig(entry kv.Entry) {
	var stored storedConfig
	if err := json.Unmarshal(entry.Value, &stored); err != nil {
		b.cannotRead(entry, err)
	} else if err := Config(stored).check(); err != nil {
		b.cannotRead(entry, err)
	}
}

func (b *books) takeBlock(entry kv.Entry) {
	block, err := readBlock(entry)
	if err == nil {
		b.blocks = append(b.blocks, block)
		return
	}
	b.cannotRead(entry, err)
	if cidr, ok := ParseBlockKey(entry.Key); ok {
		b.closed = append(b.closed, cidr)
	}
}

func (b *books) takeClaim(entry kv.Entry) {
	owner, cidr, ok := parseClaimKey(entry.Key)
	if !ok {
		if !strings.Contains(strings.TrimPrefix(entry.Key, AffinityRoot), "/") {
			return // a node's marker
		}
		b.cannotRead(entry, errors.New("not the key of a block affinity"))
		return
	}
	o, err := api.DecodeStored(api.KindBlockAffinity, entry.Value)
	if err != nil {
		b.cannotRead(entry, err)
		return
	}
	b.claims = append(b.claims, bookedClaim{owner: owner, cidr: cidr, state: o.(*api.BlockAffinity).State})
}

func (b *books) takeHandle(entry kv.Entry) {
	h := &handleState{}
	if err := h.decode(entry); err != nil {
		b.cannotRead(entry, err)
		b.illegible = append(b.illegible, h.id())
		return
	}
	b.handles = append(b.handles, h)
}

func (b *books) takePool(entry kv.Entry) {
	o, err := api.DecodeStored(api.KindIPPool, entry.Value)
	if err == nil {
		var cidr netip.Prefix
		if cidr, err = netip.ParsePrefix(o.(*api.IPPool).Spec.CIDR); err == nil {
			b.pools = append(b.pools, bookedPool{cidr: cidr.Masked(), disabled: o.(*api.IPPool).Spec.Disabled})
			return
		}
	}
	b.cannotRead(entry, err)
}

func (b *books) takeReservation(entry kv.Entry) {
	if !json.Valid(entry.Value) {
		b.cannotRead(entry, errors.New("not JSON, so that it reserves nothing"))
	}
	b.reserved = append(b.reserved, reservedBy(entry.Value)...)
}

func (b *books) takeNode(entry kv.Entry) {
	name := strings.TrimPrefix(entry.Key, nodeRoot)
	b.nodes[name] = true
	o, err := api.DecodeStored(api.KindNode, entry.Value)
	if err == nil {
		b.tunnels, err = appendUses(b.tunnels, "Node("+name+")", tunnelAddresses(&o.(*api.Node).Spec))
	}
	if err != nil {
		b.cannotRead(entry, err)
		b.blind = append(b.blind, "Node("+name+")")
	}
}

func tunnelAddresses(spec *api.NodeSpec) []string {
	all := []string{spec.IPv4VXLANTunnelAddr, spec.IPv6VXLANTunnelAddr}
	if spec.BGP != nil {
		all = append(all, spec.BGP.IPv4IPIPTunnelAddr)
	}
	if spec.Wireguard != nil {
		all = append(all, spec.Wireguard.InterfaceIPv4Address, spec.Wireguard.InterfaceIPv6Address)
	}
	return all
}

func (b *books) takeWorkload(entry kv.Entry) {
	name := "Workload(" + strings.TrimPrefix(entry.Key, workloadRoot) + ")"
	o, err := api.DecodeStored(api.KindWorkloadEndpoint, entry.Value)
	if err == nil {
		b.workload, err = appendUses(b.workload, name, o.(*api.WorkloadEndpoint).Spec.IPNetworks)
	}
	if err != nil {
		b.cannotRead(entry, err)
		b.blind = append(b.blind, name)
	}
}

// appendUses adds addresses as objects spell them: with or without a prefix length, or empty for none.
func appendUses(uses []Use, owner string, texts []string) ([]Use, error) {
	for _, text := range texts {
		if text == "" {
			continue
		}
		host, _, _ := strings.Cut(text, "/")
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return uses, fmt.Errorf("%q is not an address", text)
		}
		uses = append(uses, Use{Addr: addr.Unmap().WithZone(""), Owner: owner})
	}
	return uses, nil
}
