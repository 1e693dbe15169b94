package etcdlab

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/margay-project/margay/internal/lab"
)

// StartServer starts a single etcd in the test's process, with the data that the directory has. It ends with the test, or by
// its Close. The path of the directory must leave room for the name of a socket, as that of lab.ShortDir does.
func StartServer(t lab.T, dir string) *embed.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	server, err := embed.Start(ctx, embed.Config{Dir: dir})
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(server.Close)
	return server
}

// Admin is a connection to a server for what operators do.
func Admin(t lab.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatalf("connect to etcd: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
