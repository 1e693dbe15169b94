package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
	"github.com/margay-project/margay/datastore/kv"
)

// terms hold everything that decides which addresses of one family a request may get, apart from the blocks.
type terms struct {
	now        time.Time
	v4         bool
	config     settings
	pools      []*termPool // that the request may use, sorted by name
	refused    []string    // why other pools are not used, a phrase for each
	reserved   []netip.Prefix
	conditions []kv.Condition // the Node and the reservations are as they were read
}

// termPool is a pool that gives out addresses.
type termPool struct {
	name      string
	cidr      netip.Prefix
	blockBits int          // prefix length of a block
	condition kv.Condition // the pool is as it was read
}

// has says whether a block lies in the pool.
func (p *termPool) has(block netip.Prefix) bool {
	return p.cidr.Bits() <= block.Bits() && p.cidr.Contains(block.Addr())
}

// isBlock says whether a network is a block of the pool's block size.
func (p *termPool) isBlock(cidr netip.Prefix) bool { return cidr.Bits() == p.blockBits && p.has(cidr) }

func readTerms(ctx context.Context, store kv.KV, r *Request, v4 bool) (*terms, error) {
	t := &terms{now: time.Now(), v4: v4}
	var err error
	if t.config, err = readSettings(ctx, store); err == nil {
		err = t.config.check()
	}
	if err != nil {
		return nil, err
	}
	node, entry, err := readNode(ctx, store, r.Node)
	if err != nil {
		return nil, err
	}
	t.conditions = append(t.conditions, kv.Condition{Key: entry.Key, Revision: entry.Revision})
	namespace, err := namespaceLabels(ctx, store, r.Namespace)
	if err != nil {
		return nil, err
	}
	if err := t.readPools(ctx, store, r, node.Labels, namespace); err != nil {
		return nil, err
	}
	return t, t.readReservations(ctx, store)
}

// check returns an error for settings under which Calico's allocator refuses to work.
func (s settings) check() error {
	config := Config{StrictAffinity: s.StrictAffinity, AutoAllocateBlocks: s.AutoAllocateBlocks, MaxBlocksPerHost: s.MaxBlocksPerHost}
	if err := config.check(); err != nil {
		text := strings.TrimPrefix(err.Error(), "error: ")
		return fmt.Errorf("the IPAM configuration contradicts itself: %s: margayctl ipam configure --strictaffinity=true corrects it", text)
	}
	return nil
}

func readNode(ctx context.Context, store kv.KV, name string) (*api.Node, *kv.Entry, error) {
	entry, err := kv.Get(ctx, store, nodeRoot+name, 0)
	switch {
	case err != nil:
		return nil, nil, err
	case entry == nil:
		return nil, nil, fmt.Errorf("the Node %s does not exist, so no block can be claimed for it: start felix there, or correct the name", name)
	}
	o, err := api.DecodeStored(api.KindNode, entry.Value)
	if err != nil {
		return nil, nil, fmt.Errorf("the Node %s is unreadable, so it is not known which pools select it: %w: correct it", name, err)
	}
	return o.(*api.Node), entry, nil
}

const (
	profileRoot    = resources + "profiles/"
	namespacePart  = "kns."  // begins the name of the profile with the labels of a namespace
	namespaceLabel = "pcns." // begins the names of these labels
)

// namespaceLabels returns the labels of a namespace, which a profile has. A namespace without the profile has no labels.
func namespaceLabels(ctx context.Context, store kv.KV, namespace string) (map[string]string, error) {
	labels := map[string]string{}
	entry, err := kv.Get(ctx, store, profileRoot+namespacePart+namespace, 0)
	if err != nil || entry == nil || namespace == "" {
		return labels, err
	}
	o, err := api.DecodeStored(api.KindProfile, entry.Value)
	if err != nil {
		return nil, fmt.Errorf("the Profile %s is unreadable, so it is not known which pools select the namespace: %w: correct it",
			namespacePart+namespace, err)
	}
	for name, value := range o.(*api.Profile).Spec.LabelsToApply {
		if name, ok := strings.CutPrefix(name, namespaceLabel); ok {
			labels[name] = value
		}
	}
	return labels, nil
}

// readPools reads the pools, and chooses those that the request may use. Pools that it names need not select the node or the
// namespace, as in Calico.
func (t *terms) readPools(ctx context.Context, store kv.KV, r *Request, node, namespace map[string]string) error {
	missing := map[string]bool{}
	for _, name := range r.Pools {
		missing[name] = true
	}
	_, err := kv.Each(ctx, store, kv.Prefix(poolRoot), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			name := strings.TrimPrefix(entry.Key, poolRoot)
			named := missing[name]
			delete(missing, name)
			if len(r.Pools) > 0 && !named {
				continue
			}
			pool, why := t.readPool(entry, name, func(spec *api.IPPoolSpec) string {
				if named {
					return ""
				}
				return whyNotSelected(spec, node, namespace)
			})
			if pool != nil {
				t.pools = append(t.pools, pool)
			} else if why != "" {
				t.refused = append(t.refused, "IPPool "+name+" "+why)
			}
		}
		return nil
	})
	for _, name := range r.Pools {
		if missing[name] && err == nil {
			err = fmt.Errorf("IPPool %s does not exist: create it, or name another one", name)
		}
	}
	return err
}

// readPool returns a pool that gives out addresses of the family, or a phrase that says why it does not. A pool of the other family
// gives neither.
func (t *terms) readPool(entry kv.Entry, name string, whyNot func(*api.IPPoolSpec) string) (*termPool, string) {
	o, err := api.DecodeStored(api.KindIPPool, entry.Value)
	if err != nil {
		return nil, "is unreadable: correct it"
	}
	spec := &o.(*api.IPPool).Spec
	cidr, err := netip.ParsePrefix(spec.CIDR)
	if err != nil {
		return nil, fmt.Sprintf("has the CIDR %q, which is no network: correct it", spec.CIDR)
	}
	pool := &termPool{name: name, cidr: cidr.Masked(), blockBits: spec.BlockSize, condition: kv.Condition{Key: entry.Key, Revision: entry.Revision}}
	if pool.blockBits == 0 {
		pool.blockBits = defaultBlockBits(cidr.Addr())
	}
	switch why := whyNot(spec); {
	case cidr.Addr().Is4() != t.v4:
		return nil, ""
	case spec.Disabled:
		return nil, "is disabled: enable it"
	case len(spec.AllowedUses) > 0 && !slices.Contains(spec.AllowedUses, useWorkload):
		return nil, "is not for workloads: add Workload to its allowedUses"
	case pool.blockBits < pool.cidr.Bits() || pool.blockBits > cidr.Addr().BitLen() || cidr.Addr().BitLen()-pool.blockBits > 12:
		return nil, fmt.Sprintf("has the block size %d, which does not fit %v: correct it", pool.blockBits, cidr)
	case why != "":
		return nil, why
	}
	return pool, ""
}

// useWorkload is the value of allowedUses for addresses of workloads.
const useWorkload = "Workload"

func defaultBlockBits(addr netip.Addr) int {
	if addr.Is4() {
		return 26
	}
	return 122
}

// whyNotSelected returns a phrase that says why a pool that the request does not name is not for it; empty if it is.
func whyNotSelected(spec *api.IPPoolSpec, node, namespace map[string]string) string {
	if spec.AssignmentMode != nil && *spec.AssignmentMode != "Automatic" {
		return "has assignmentMode " + *spec.AssignmentMode + ": name the pool, or set Automatic"
	}
	for _, part := range []struct {
		field, text string
		labels      map[string]string
		of          string
	}{{"nodeSelector", spec.NodeSelector, node, "node"}, {"namespaceSelector", spec.NamespaceSelector, namespace, "namespace"}} {
		if part.text == "" {
			continue
		}
		s, err := selector.Parse(part.text)
		if err != nil {
			return fmt.Sprintf("has an invalid %s: correct it", part.field)
		}
		if !s.Matches(selector.Map(part.labels)) {
			return fmt.Sprintf("selects other %ss (%s %s)", part.of, part.field, part.text)
		}
	}
	return ""
}

// readReservations reads the IPReservations. An unreadable one stops the assignment: an address that it reserves must not be given
// away.
func (t *terms) readReservations(ctx context.Context, store kv.KV) error {
	span := kv.Prefix(reservationRoot)
	revision, err := kv.Each(ctx, store, span, 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			networks, err := reservedNetworks(entry.Value)
			if err != nil {
				return fmt.Errorf("IPReservation %s is unreadable, so it is not known which addresses it reserves: %w: correct or delete it",
					strings.TrimPrefix(entry.Key, reservationRoot), err)
			}
			t.reserved = append(t.reserved, networks...)
		}
		return nil
	})
	t.reserved = withoutNested(t.reserved)
	t.conditions = append(t.conditions, kv.Condition{Span: span, Revision: revision})
	return err
}

// reservedNetworks returns the networks of an IPReservation.
func reservedNetworks(reservation []byte) ([]netip.Prefix, error) {
	var r struct {
		Spec struct{ ReservedCIDRs []string }
	}
	if err := json.Unmarshal(reservation, &r); err != nil {
		return nil, err
	}
	var all []netip.Prefix
	var failures error
	for _, text := range r.Spec.ReservedCIDRs {
		cidr, err := api.ParseNet(text)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		all = append(all, cidr.Masked())
	}
	return all, failures
}
