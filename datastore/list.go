package datastore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// List reads all objects of a kind, for a namespaced kind those of one namespace unless that is empty, in the order of
// their keys; values that cannot be read are left out. The text is the resourceVersion of the list.
func (s *Store) List(ctx context.Context, kind, namespace string) ([]api.Object, string, error) {
	for again := 0; ; again++ {
		var all []api.Object
		var version string
		err := s.EachPage(ctx, kind, namespace, func(objects []api.Object, resourceVersion string) error {
			all, version = append(all, objects...), resourceVersion
			return nil
		})
		if !errors.Is(err, ErrCompacted) || again == listAgain {
			return all, version, err
		}
	}
}

// listAgain is how often a list begins anew because the history that it reads was compacted before it ended.
const listAgain = 3

// EachPage hands over what List reads as it arrives, all of it as it was at one revision, so that a long list need not be
// kept. There is at least one page, be it without objects. ErrCompacted says that the datastore forgot that revision
// before the last page was read: what was handed over until then is right, and not all.
func (s *Store) EachPage(ctx context.Context, kind, namespace string, visit func(objects []api.Object, version string) error) error {
	k, ok := api.KindOf(kind)
	if !ok {
		return fmt.Errorf("list %s: unknown kind", kind)
	}
	span, read := kv.Prefix(kindPrefix(k, namespace)), listedObject
	if k.Name == api.KindBlockAffinity {
		span, read = kv.Prefix(ipam.AffinityRoot), claimedBlock
	}
	var version string
	var refused error
	_, err := kv.Each(ctx, s.kv, span, 0, func(page Page) error {
		if version == "" {
			version = strconv.FormatInt(page.Revision, 10) // the first page's, as of which the others are too
		}
		var objects []api.Object
		for _, entry := range page.Entries {
			if o := read(entry); o != nil {
				objects = append(objects, o)
			}
		}
		if o := synthetic(api.Key{Kind: k.Name, Name: defaultAllow}); o != nil && !page.More {
			objects = append(objects, o)
		}
		refused = visit(objects, version)
		return refused
	})
	if err != nil && refused == nil {
		err = fmt.Errorf("list %s: %w", k.Plural, err)
	}
	return err
}

// listedObject is what an entry holds, or nil when that cannot be read.
func listedObject(entry Entry) api.Object {
	key, _, ok := parseKey(entry.Key)
	if !ok {
		return nil
	}
	o, err := decode(key, entry)
	if err != nil {
		return nil
	}
	return o
}
