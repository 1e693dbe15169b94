package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

const (
	defaultConfig  = "/etc/calico/calicoctl.cfg"
	embeddedSocket = "/run/margay/etcd/etcd.sock"
)

// store is what the verbs ask of the datastore.
type store interface {
	Create(ctx context.Context, o api.Object) (api.Object, error)
	Update(ctx context.Context, o api.Object) (api.Object, error)
	Delete(ctx context.Context, key api.Key, resourceVersion string) (api.Object, error)
	Get(ctx context.Context, key api.Key) (api.Object, error)
	List(ctx context.Context, kind, namespace string) ([]api.Object, string, error)
	EnsureInitialized(ctx context.Context) error
}

// openDatastore connects to the datastore that the flags, the environment or this machine name.
func openDatastore(ctx context.Context, s *session) (store, func(), error) {
	file := s.config
	if _, err := os.Stat(file); file == defaultConfig && errors.Is(err, os.ErrNotExist) {
		file = ""
	}
	getenv := s.getenv
	if file == "" && !namesDatastore(getenv) {
		if _, err := os.Stat(embeddedSocket); err != nil {
			return nil, nil, fmt.Errorf("no datastore is named by %s or the environment, and felix embeds none here (%w): "+
				"set ETCD_ENDPOINTS, for example ETCD_ENDPOINTS=https://10.0.0.1:2379", defaultConfig, err)
		}
		getenv = embeddedEtcd
	}
	config, err := datastore.ConfigFromEnvironment(getenv, file)
	if err != nil {
		return nil, nil, err
	}
	etcd, err := datastore.Dial(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return datastore.New(etcd), func() { etcd.Close() }, nil
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

// embeddedEtcd is an environment that names the etcd that felix embeds.
func embeddedEtcd(name string) string {
	switch name {
	case "ETCD_ENDPOINTS":
		return "unix://" + embeddedSocket
	case "DATASTORE_TYPE":
		return "etcdv3"
	}
	return ""
}

func isExists(err error) bool   { return errors.As(err, new(datastore.ExistsError)) }
func isNotFound(err error) bool { return errors.As(err, new(datastore.NotFoundError)) }
func isConflict(err error) bool { return errors.As(err, new(datastore.ConflictError)) }
func isUnsupported(err error) bool {
	return errors.As(err, new(datastore.UnsupportedError))
}

// notWritable is the error for kinds that people read and the tools write.
func notWritable(operation string, o api.Object) error {
	kind, ok := api.KindOf(o.Type().Kind)
	if ok && kind.ReadOnly {
		return datastore.UnsupportedError{Operation: operation, Key: api.KeyOf(o), Reason: "resource is readonly"}
	}
	return nil
}
