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

// List reads all objects of a kind in the order of their keys, and the resourceVersion of the list. For a namespaced kind it reads
// one namespace, or all if namespace is empty. It leaves out unreadable values. If etcd compacts the revision of the list before
// the last page is read, it begins again, up to listAgain times.
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

// listAgain is how often a list begins again after a compaction. etcd keeps its history for minutes, and a list takes seconds: a
// second compaction in a row is rare, and a third means that the server compacts all the time.
const listAgain = 3

// EachPage is List in pages, all read at one revision, so that a long list need not be kept in memory. It calls visit at least once,
// even without objects. It stops at an error of visit and returns that. After kv.ErrCompacted the pages visited so far are correct,
// and the rest is missing, because etcd no longer has the revision.
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
			version = strconv.FormatInt(page.Revision, 10) // of the first page; the others are read at the same revision
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

// listedObject returns the object of an entry; nil if it is unreadable.
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
