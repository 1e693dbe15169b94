package datastore

import (
	"context"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
)

// claimedBlock turns the entry of a block affinity into the object that users see. Its name is made of the node and the block's
// network. It is nil for any other entry, and for an unreadable one.
func claimedBlock(entry Entry) api.Object {
	node, cidr, ok := ipam.ParseAffinityKey(entry.Key)
	if !ok {
		return nil
	}
	o, _ := decode(api.Key{Kind: api.KindBlockAffinity, Namespace: node, Name: ipam.BlockName(cidr)}, entry)
	affinity, ok := o.(*api.BlockAffinity)
	if !ok || affinity == nil {
		return nil
	}
	return &api.ClaimedBlock{
		TypeMeta: api.TypeMeta{Kind: api.KindBlockAffinity, APIVersion: api.APIVersion},
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
	objects, _, err := s.List(ctx, api.KindBlockAffinity, "")
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
