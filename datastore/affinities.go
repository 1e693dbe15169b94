package datastore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// claimedBlocks lists the blocks that nodes claim, in the order of their keys. Each is named by its node and its network.
func (s *Store) claimedBlocks(ctx context.Context) ([]api.Object, string, error) {
	var objects []api.Object
	revision, err := kv.Each(ctx, s.kv, kv.Prefix(ipam.AffinityRoot), 0, func(page Page) error {
		for _, entry := range page.Entries {
			if claimed := claimedBlock(entry); claimed != nil {
				objects = append(objects, claimed)
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list the blocks that nodes claim: %w", err)
	}
	return objects, strconv.FormatInt(revision, 10), nil
}

// claimedBlock is what an entry says, or nil if it is not that of a claim.
func claimedBlock(entry Entry) *api.ClaimedBlock {
	node, cidr, ok := ipam.ParseAffinityKey(entry.Key)
	if !ok {
		return nil
	}
	o, _ := decode(api.Key{Kind: affinityKind, Namespace: node, Name: ipam.BlockName(cidr)}, entry)
	affinity, ok := o.(*api.BlockAffinity)
	if !ok || affinity == nil {
		return nil
	}
	return &api.ClaimedBlock{
		TypeMeta: api.TypeMeta{Kind: affinityKind, APIVersion: api.APIVersion},
		Metadata: api.Metadata{
			Name:            node + "-" + strings.NewReplacer(".", "-", ":", "-").Replace(ipam.BlockName(cidr)),
			ResourceVersion: strconv.FormatInt(entry.Revision, 10),
		},
		Spec: api.ClaimedBlockSpec{
			State: affinity.State, Node: node, Type: "host", CIDR: cidr.String(), Deleted: strconv.FormatBool(affinity.Deleted),
		},
	}
}

func (s *Store) getClaimedBlock(ctx context.Context, key api.Key) (api.Object, error) {
	objects, _, err := s.claimedBlocks(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.Meta().Name == key.Name {
			return o, nil
		}
	}
	return nil, NotFoundError{Key: key}
}
