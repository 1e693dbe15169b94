package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// books holds all records about addresses, read at one revision of the datastore.
type books struct {
	revision int64
	cluster  Cluster
	blocks   []*heldBlock // sorted by key
	claims   []bookedClaim
	handles  []*handleState // sorted by name
	pools    []bookedPool
	reserved []netip.Prefix
	nodes    map[string]bool
	tunnels  []Use // tunnel addresses of nodes
	workload []Use // addresses of workload endpoints

	unreadable []string       // a sentence for each unreadable or invalid value
	closed     []netip.Prefix // unreadable blocks: the holders of their addresses are not known
	badHandles []string       // names of unreadable handles
	blind      []string       // unreadable nodes and workload endpoints: their addresses are not known
}

// Cluster holds the fields of the ClusterInformation that reports need.
type Cluster struct {
	GUID     string
	Type     string
	Revision string // resourceVersion of the ClusterInformation, which every change of the lock changes
	Locked   bool
}

// Use is an address that a node or workload endpoint has, whether or not IPAM knows it. Owner names that object.
type Use struct {
	Addr  netip.Addr
	Owner string
}

// bookedClaim is the claim of a node or a virtual owner on a block.
type bookedClaim struct {
	owner string // as in blocks: host:NODE or virtual:OWNER
	cidr  netip.Prefix
	state string // pending, confirmed or pendingDeletion
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

// readBooks reads all records at one revision. It begins again if etcd compacts the revision meanwhile.
func readBooks(ctx context.Context, store kv.KV) (*books, error) {
	for range attempts {
		b := &books{nodes: map[string]bool{}}
		err := b.read(ctx, store)
		if errors.Is(err, kv.ErrCompacted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read IPAM's records: %w", err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("read IPAM's records: etcd compacts its history faster than it can be read: %w", kv.ErrCompacted)
}

func (b *books) read(ctx context.Context, store kv.KV) error {
	err := b.readParts(ctx, store, []booksPart{
		{kv.Single(clusterKey), b.readCluster},
		{kv.Single(configKey), b.readConfig},
		{kv.Prefix(BlockRoot), b.readBlock},
		{kv.Prefix(AffinityRoot), b.readClaim},
		{kv.Prefix(virtualRoot), b.readClaim},
		{kv.Prefix(handleRoot), b.readHandle},
		{kv.Prefix(poolRoot), b.readPool},
		{kv.Prefix(reservationRoot), b.readReservation},
		{kv.Prefix(nodeRoot), b.readNode},
		{kv.Prefix(workloadRoot), b.readWorkload},
	})
	b.reserved = withoutNested(b.reserved)
	return err
}

// booksPart is a part of the records with its reader.
type booksPart struct {
	span kv.Span
	read func(kv.Entry)
}

// readParts reads parts of the records at one revision.
func (b *books) readParts(ctx context.Context, store kv.KV, parts []booksPart) error {
	for _, part := range parts {
		revision, err := kv.Each(ctx, store, part.span, b.revision, func(page kv.Page) error {
			for _, entry := range page.Entries {
				part.read(entry)
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.revision = revision
	}
	return nil
}

func (b *books) cannotRead(entry kv.Entry, err error) {
	b.unreadable = append(b.unreadable, fmt.Sprintf("%s: %v", entry.Key, err))
}

func (b *books) readCluster(entry kv.Entry) {
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

func (b *books) readConfig(entry kv.Entry) {
	var stored storedConfig
	if err := json.Unmarshal(entry.Value, &stored); err != nil {
		b.cannotRead(entry, err)
	} else if err := Config(stored).check(); err != nil {
		b.cannotRead(entry, err)
	}
}

func (b *books) readBlock(entry kv.Entry) {
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

func (b *books) readClaim(entry kv.Entry) {
	owner, cidr, ok := parseClaimKey(entry.Key)
	if !ok {
		if !strings.Contains(strings.TrimPrefix(entry.Key, AffinityRoot), "/") {
			return // the marker of a node, which is no claim
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

func (b *books) readHandle(entry kv.Entry) {
	h := &handleState{}
	if err := h.decode(entry); err != nil {
		b.cannotRead(entry, err)
		b.badHandles = append(b.badHandles, h.id())
		return
	}
	b.handles = append(b.handles, h)
}

func (b *books) readPool(entry kv.Entry) {
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

func (b *books) readReservation(entry kv.Entry) {
	if !json.Valid(entry.Value) {
		b.cannotRead(entry, errors.New("not JSON, so it reserves nothing"))
	}
	b.reserved = append(b.reserved, reservedBy(entry.Value)...)
}

func (b *books) readNode(entry kv.Entry) {
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

func (b *books) readWorkload(entry kv.Entry) {
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

// appendUses adds addresses from the fields of an object. They may have a prefix length; an empty text is no address.
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

// UsesIn returns a function for Request.InUse. At its first call it reads all nodes and workload endpoints.
func UsesIn(store kv.KV) func(ctx context.Context, free []netip.Addr) (map[netip.Addr]bool, error) {
	var used map[netip.Addr]bool
	return func(ctx context.Context, _ []netip.Addr) (map[netip.Addr]bool, error) {
		if used != nil {
			return used, nil
		}
		b := &books{nodes: map[string]bool{}}
		if err := b.readParts(ctx, store, []booksPart{{kv.Prefix(nodeRoot), b.readNode}, {kv.Prefix(workloadRoot), b.readWorkload}}); err != nil {
			return nil, err
		}
		if len(b.blind) > 0 {
			return nil, fmt.Errorf("these objects are unreadable, so it is not known which addresses they have: %s: replace or delete them",
				strings.Join(b.blind, ", "))
		}
		found := map[netip.Addr]bool{}
		for _, use := range slices.Concat(b.tunnels, b.workload) {
			found[use.Addr] = true
		}
		used = found
		return used, nil
	}
}
