package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// register makes the datastore ready for this node: what every store has, the default FelixConfiguration, and the
// Node object. It only adds; what an operator has written stays. It looks before it writes, because a datastore that is
// locked and has everything is no reason to fail.
func register(ctx context.Context, store *datastore.Store, s *settings, found nodeAddresses) error {
	if err := store.EnsureInitialized(ctx); err != nil {
		return fmt.Errorf("initialise the datastore: %w", err)
	}
	if err := ensureConfiguration(ctx, store); err != nil {
		return fmt.Errorf("create FelixConfiguration default: %w", err)
	}
	return registerNode(ctx, store, s, found)
}

func ensureConfiguration(ctx context.Context, store *datastore.Store) error {
	config := &api.FelixConfiguration{
		TypeMeta: api.TypeMeta{Kind: "FelixConfiguration", APIVersion: api.APIVersion},
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

// registerNode creates or completes this node's Node object; another writer's change in between is taken up.
func registerNode(ctx context.Context, store *datastore.Store, s *settings, found nodeAddresses) error {
	key := api.Key{Kind: "Node", Name: s.nodeName}
	for {
		err := completeStoredNode(ctx, store, key, s, found)
		if isError[datastore.ExistsError](err) || isError[datastore.ConflictError](err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("register node %s: %w", s.nodeName, err)
		}
		return nil
	}
}

func completeStoredNode(ctx context.Context, store *datastore.Store, key api.Key, s *settings, found nodeAddresses) error {
	stored, err := store.Get(ctx, key)
	if isError[datastore.NotFoundError](err) {
		node := &api.Node{
			TypeMeta: api.TypeMeta{Kind: "Node", APIVersion: api.APIVersion},
			Metadata: api.Metadata{Name: key.Name},
		}
		completeNode(node, s, found)
		_, err = store.Create(ctx, node)
		return err
	}
	if err != nil {
		return err
	}
	node := stored.(*api.Node)
	if !completeNode(node, s, found) {
		return nil
	}
	_, err = store.Update(ctx, node)
	return err
}

// nodeAddresses are the node's addresses with the length of their networks; invalid when there is none.
type nodeAddresses struct{ v4, v6 netip.Prefix }

// completeNode fills what the node lacks and says whether it changed anything. Flags win over what is stored, what is
// stored wins over what was found on the machine.
func completeNode(node *api.Node, s *settings, found nodeAddresses) (changed bool) {
	bgp := api.NodeBGPSpec{}
	if node.Spec.BGP != nil {
		bgp = *node.Spec.BGP
	}
	set := func(field *string, flag string, found netip.Prefix) {
		value := *field
		if value == "" && found.IsValid() {
			value = found.String()
		}
		if flag != "" {
			value = flag
		}
		changed = changed || value != *field
		*field = value
	}
	set(&bgp.IPv4Address, s.ipv4, found.v4)
	set(&bgp.IPv6Address, s.ipv6, found.v6)
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
	return changed
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
	missing  chan struct{} // the Node object was deleted
	news     chan datastore.AgentRecord
	record   *datastore.AgentRecord // as it should be; nil before that is known
	failing  string                 // what was last logged about the record
}

func newRegistrar(log *logrus.Entry, s *settings) *registrar {
	return &registrar{log: log, settings: s, missing: make(chan struct{}, 1), news: make(chan datastore.AgentRecord, 1)}
}

// once tries a single time, and not for long.
func (r *registrar) once(ctx context.Context, store *datastore.Store) error {
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	return register(ctx, store, r.settings, findAddresses())
}

// again has the node registered once more.
func (r *registrar) again() {
	select {
	case r.missing <- struct{}{}:
	default: // it is about to be
	}
}

// run registers the node now, and whenever its object is gone, until ctx ends. What fails is tried again.
func (r *registrar) run(ctx context.Context, store *datastore.Store) {
	r.register(ctx, store)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-r.missing:
			r.log.Warnf("Node %s was deleted while felix runs on it: it is registered again; stop felix here to remove the node for good",
				r.settings.nodeName)
			r.register(ctx, store)
		case record := <-r.news:
			r.record = &record
			r.keepRecord(ctx, store)
		case <-tick.C:
			r.keepRecord(ctx, store)
		case <-ctx.Done():
			return
		}
	}
}

// lookAgain is the time between two looks at what is registered.
const lookAgain = 20 * time.Second

// register tries until the node is registered or ctx ends.
func (r *registrar) register(ctx context.Context, store *datastore.Store) {
	failing := ""
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := register(ctx, store, r.settings, findAddresses())
		if err == nil || ctx.Err() != nil {
			return
		}
		if now := text(err); now != failing {
			r.log.WithError(err).Warn("node is not registered as it should be; trying again")
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

// lockedAgain is short, because whoever unlocks the datastore waits for the node.
const lockedAgain = 2 * time.Second
