package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// register makes the datastore ready for this node: it creates the objects that every datastore has, the default
// FelixConfiguration, and the Node. It never changes values that an operator wrote. It reads before it writes: a locked datastore
// that has everything is no error.
func register(ctx context.Context, store *datastore.Store, s *settings, m machine) error {
	if err := store.EnsureInitialized(ctx); err != nil {
		return fmt.Errorf("initialise the datastore: %w", err)
	}
	if err := ensureConfiguration(ctx, store); err != nil {
		return fmt.Errorf("create FelixConfiguration default: %w", err)
	}
	return registerNode(ctx, store, s, m)
}

func ensureConfiguration(ctx context.Context, store *datastore.Store) error {
	config := &api.FelixConfiguration{
		TypeMeta: api.TypeMeta{Kind: api.KindFelixConfiguration, APIVersion: api.APIVersion},
		Metadata: api.Metadata{Name: "default"},
	}
	_, err := store.Get(ctx, api.KeyOf(config))
	if isError[datastore.NotFoundError](err) {
		_, err = store.Create(ctx, config)
	}
	if isError[datastore.ExistsError](err) || isError[datastore.UnreadableError](err) {
		return nil
	}
	return err
}

// registerNode creates or completes this node's Node. If another writer changes it in between, it reads it again.
func registerNode(ctx context.Context, store *datastore.Store, s *settings, m machine) error {
	for {
		err := completeStoredNode(ctx, store, s, m)
		if isError[datastore.ExistsError](err) || isError[datastore.ConflictError](err) || errors.Is(err, datastore.ErrRecordChanged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("register node %s: %w", s.nodeName, err)
		}
		return nil
	}
}

func completeStoredNode(ctx context.Context, store *datastore.Store, s *settings, m machine) error {
	record, revision, err := store.ReadAgentRecord(ctx, s.nodeName)
	if err != nil {
		return err
	}
	node, put := &api.Node{
		TypeMeta: api.TypeMeta{Kind: api.KindNode, APIVersion: api.APIVersion},
		Metadata: api.Metadata{Name: s.nodeName},
	}, store.Create
	stored, err := store.Get(ctx, api.KeyOf(node))
	switch {
	case err == nil:
		node, put = stored.(*api.Node), store.Update
	case !isError[datastore.NotFoundError](err):
		return err
	}
	before := record
	changed, err := completeNode(node, s, m, &record)
	if err != nil {
		return err
	}
	if !record.Equal(before) { // first: without the record, a found address would look like the operator's
		if err := store.WriteAgentRecord(ctx, s.nodeName, record, revision); err != nil {
			return err
		}
	}
	if changed || stored == nil {
		_, err = put(ctx, node)
	}
	return err
}

// completeNode fills in the missing values of a Node and says whether it changed any. It notes in record which addresses were
// found.
func completeNode(node *api.Node, s *settings, m machine, record *datastore.AgentRecord) (changed bool, err error) {
	bgp := api.NodeBGPSpec{}
	if node.Spec.BGP != nil {
		bgp = *node.Spec.BGP
	}
	for _, family := range []struct {
		setting      *addressSetting
		field, found *string
		v4           bool
	}{{&s.ipv4, &bgp.IPv4Address, &record.FoundV4, true}, {&s.ipv6, &bgp.IPv6Address, &record.FoundV6, false}} {
		value, e := family.setting.choose(*family.field, *family.found, m, family.v4)
		err = errors.Join(err, e)
		if value == *family.field {
			continue
		}
		for i, a := range node.Spec.Addresses {
			if a.Address == *family.field {
				node.Spec.Addresses = slices.Clone(node.Spec.Addresses)
				node.Spec.Addresses[i].Address = value
			}
		}
		*family.field, changed = value, true
		if !family.setting.fixed.IsValid() {
			*family.found = value
		}
	}
	if number := api.ASNumber(s.asNumber); number != 0 && (bgp.ASNumber == nil || *bgp.ASNumber != number) {
		bgp.ASNumber, changed = &number, true
	}
	if bgp != (api.NodeBGPSpec{}) {
		node.Spec.BGP = &bgp
	}
	if len(node.Spec.Addresses) == 0 && bgp.IPv4Address != "" {
		node.Spec.Addresses, changed = []api.NodeAddress{{Address: bgp.IPv4Address, Type: "CalicoNodeIP"}}, true
	}
	for name, value := range s.labels {
		if node.Labels[name] != value {
			labels := maps.Clone(node.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			labels[name] = value
			node.Labels, changed = labels, true
		}
	}
	return changed, err
}

// isError says whether an error is of a type.
func isError[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// registrar keeps the node registered, and the record of this agent.
type registrar struct {
	log      *logrus.Entry
	settings *settings
	etcd     *etcdAddresses
	missing  chan struct{} // the Node object was deleted
	changed  chan struct{} // facts about the host have changed
	news     chan datastore.AgentRecord
	record   *datastore.AgentRecord // the wanted one; nil before the first pass
	failing  string                 // the last logged error of the record
	identity datastore.AgentIdentity
	written  bool // this agent has written the record
	twin     atomic.Pointer[twin]
}

func newRegistrar(log *logrus.Entry, s *settings, etcd *etcdAddresses) *registrar {
	identity, err := identify()
	if err != nil {
		log.WithError(err).Warn("felix cannot identify this machine, so it would not notice another felix under the same node name")
	}
	return &registrar{
		log: log, settings: s, etcd: etcd, identity: identity,
		missing: make(chan struct{}, 1), changed: make(chan struct{}, 1), news: make(chan datastore.AgentRecord, 1),
	}
}

// once tries one time, for at most connectionPatience.
func (r *registrar) once(ctx context.Context, store *datastore.Store) error {
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	return r.try(ctx, store)
}

func (r *registrar) try(ctx context.Context, store *datastore.Store) error {
	m, err := readMachine(r.etcd.addresses())
	if err != nil {
		return err
	}
	return register(ctx, store, r.settings, m)
}

// look has run check the Node again, because facts about the host have changed.
func (r *registrar) look() {
	select {
	case r.changed <- struct{}{}:
	default: // run is about to do so
	}
}

// again has run register the node again.
func (r *registrar) again() {
	select {
	case r.missing <- struct{}{}:
	default: // run is about to do so
	}
}

// run registers the node now, and again whenever its Node has gone, until ctx ends. It tries again after a failure.
func (r *registrar) run(ctx context.Context, store *datastore.Store) {
	r.register(ctx, store)
	tick, recordTick := time.NewTicker(lookAgain), time.NewTicker(recordInterval)
	defer tick.Stop()
	defer recordTick.Stop()
	for {
		select {
		case <-r.missing:
			r.log.Warnf("Node %s was deleted while felix runs here, so felix creates it again; to remove the node for good, stop felix first",
				r.settings.nodeName)
			r.register(ctx, store)
		case record := <-r.news:
			r.record = &record
			r.keepRecord(ctx, store)
		case <-r.changed:
			r.register(ctx, store)
		case <-tick.C:
			r.register(ctx, store)
		case <-recordTick.C:
			r.keepRecord(ctx, store)
		case <-ctx.Done():
			return
		}
	}
}

// lookAgain is the time between two checks of the Node.
const lookAgain = time.Minute

// register tries until the node is registered or ctx ends.
func (r *registrar) register(ctx context.Context, store *datastore.Store) {
	failing := ""
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := r.try(ctx, store)
		if err == nil || ctx.Err() != nil {
			return
		}
		if now := text(err); now != failing {
			r.log.WithError(err).Warn("the Node cannot be completed; felix tries again")
			failing = now
		}
		if errors.Is(err, datastore.ErrLocked) {
			wait = lockedAgain
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// lockedAgain is short, because the operator who unlocks the datastore waits for the node.
const lockedAgain = 2 * time.Second
