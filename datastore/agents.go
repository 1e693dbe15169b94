package datastore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// CalicoNodes returns the nodes whose last agent was Calico's, sorted. Calico's agents leave a status under /calico/felix/, or only
// their version in the ClusterInformation. Our agents record themselves (see AgentRecord), and Calico's do not. A datastore that
// none of Calico's agents ever used has no such nodes, even before our first agent runs.
func (s *Store) CalicoNodes(ctx context.Context) ([]string, error) {
	suspects := map[string]bool{}
	err := s.eachKey(ctx, reportRoot, func(path string) {
		// felix/v2/REGION/host/NODE/..., felix/v1/host/NODE/...
		if _, rest, ok := strings.Cut(path, "/host/"); ok {
			node, _, _ := strings.Cut(rest, "/")
			suspects[node] = true
		}
	})
	if err != nil {
		return nil, err
	}
	information, err := kv.Get(ctx, s.kv, informationKey, 0)
	if err != nil {
		return nil, fmt.Errorf("get %v: %w", informationOf, err)
	}
	if calicoWrote(information) {
		err := s.eachKey(ctx, nodeRoot, func(path string) {
			suspects[strings.TrimPrefix(path, nodeRoot)] = true
		})
		if err != nil {
			return nil, err
		}
	}
	err = s.eachKey(ctx, recordKey(""), func(path string) { delete(suspects, strings.TrimPrefix(path, recordKey(""))) })
	return slices.Sorted(maps.Keys(suspects)), err
}

const nodeRoot = resourceRoot + "nodes/"

// calicoWrote says whether Calico's agents once wrote their version into the ClusterInformation.
func calicoWrote(information *Entry) bool {
	if information == nil {
		return false
	}
	o, err := decode(informationOf, *information)
	c, ok := o.(*api.ClusterInformation)
	return err == nil && ok && c.Spec.CalicoVersion != ""
}

func (s *Store) eachKey(ctx context.Context, root string, visit func(path string)) error {
	_, err := kv.Each(ctx, s.kv, kv.Prefix(root), 0, func(page Page) error {
		for _, entry := range page.Entries {
			visit(entry.Key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the keys under %s: %w", root, err)
	}
	return nil
}
