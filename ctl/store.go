package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
)

const (
	defaultConfig  = etcd.DefaultConfigFile
	embeddedSocket = "/var/lib/margay/etcd/etcd.sock"
)

// store is the part of a datastore.Store that the verbs use.
type store interface {
	Create(ctx context.Context, o api.Object) (api.Object, error)
	Update(ctx context.Context, o api.Object) (api.Object, error)
	Delete(ctx context.Context, key api.Key, resourceVersion string) (api.Object, error)
	Get(ctx context.Context, key api.Key) (api.Object, error)
	List(ctx context.Context, kind, namespace string) ([]api.Object, string, error)
	EachPage(ctx context.Context, kind, namespace string, visit func(objects []api.Object, version string) error) error
	EnsureInitialized(ctx context.Context) error
	SplitPool(ctx context.Context, name string, parts int) ([]*api.IPPool, error)
	CalicoNodes(ctx context.Context) ([]string, error)
	KV() datastore.KV
	DryRun() *datastore.Store
	WhileUnlocked() *datastore.Store
	Begin() *datastore.Transaction
	Export(ctx context.Context) (*datastore.Archive, error)
	Import(ctx context.Context, a *datastore.Archive, merge bool) (datastore.Imported, error)
	MigratePolicyNames(ctx context.Context, dryRun bool) ([]datastore.Renamed, error)
	Watch(ctx context.Context, log *logrus.Entry) <-chan datastore.Batch
}

// openDatastore connects to the datastore that the flags, the environment or this machine name.
func openDatastore(ctx context.Context, s *session) (store, func(), error) {
	getenv := s.getenv
	if _, err := os.Stat(s.config); s.config == defaultConfig && errors.Is(err, fs.ErrNotExist) && !namesDatastore(getenv) {
		if _, err := os.Stat(s.embedded); err != nil {
			return nil, nil, fmt.Errorf("no datastore is named by %s or the environment, and felix embeds none here (%w): "+
				"set ETCD_ENDPOINTS, for example ETCD_ENDPOINTS=https://10.0.0.1:2379", s.config, err)
		}
		getenv = onlyEndpoint("unix://" + s.embedded)
	}
	config, err := etcd.ConfigFromEnvironment(getenv, s.config)
	if err != nil {
		return nil, nil, err
	}
	config.DialTimeout = s.patience
	s.log.WithField("endpoints", config.Endpoints).Debug("connecting to etcd")
	client, err := etcd.Dial(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return datastore.New(client), func() { client.Close() }, nil
}

// namesDatastore says whether the environment chooses a datastore.
func namesDatastore(getenv func(string) string) bool {
	for _, name := range []string{"DATASTORE_TYPE", "ETCD_ENDPOINTS", "ETCD_DISCOVERY_SRV"} {
		if getenv(name) != "" || getenv("CALICO_"+name) != "" {
			return true
		}
	}
	return false
}

// onlyEndpoint returns an environment that names one etcd and nothing else.
func onlyEndpoint(endpoint string) func(string) string {
	return func(name string) string {
		if name == "ETCD_ENDPOINTS" {
			return endpoint
		}
		return ""
	}
}

func isExists(err error) bool   { return errors.As(err, new(datastore.ExistsError)) }
func isNotFound(err error) bool { return errors.As(err, new(datastore.NotFoundError)) }
func isConflict(err error) bool { return errors.As(err, new(datastore.ConflictError)) }
func asUnreadable(err error) (datastore.UnreadableError, bool) {
	return errors.AsType[datastore.UnreadableError](err)
}
func isUnsupported(err error) bool {
	return errors.As(err, new(datastore.UnsupportedError))
}

// notWritable returns an error for objects that only other programs write; nil for all others.
func notWritable(operation string, o api.Object) error {
	kind, ok := api.KindOf(o.Type().Kind)
	if ok && kind.ReadOnly {
		return datastore.UnsupportedError{Operation: operation, Key: api.KeyOf(o), Reason: "resource is readonly"}
	}
	if kind.Name == api.KindNetworkPolicy && strings.HasPrefix(o.Meta().Name, "knp.default.") {
		return datastore.UnsupportedError{Operation: operation, Key: api.KeyOf(o),
			Reason: "kubernetes network policies must be managed through the kubernetes API"}
	}
	return nil
}
