package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv"
)

// routes returns the host's routes of our protocol, one per line.
func (l *site) routes() string {
	l.Helper()
	var text strings.Builder
	l.host.Must(func() error {
		list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: 86}, netlink.RT_FILTER_PROTOCOL)
		for _, r := range list {
			kind := ""
			if r.Type == 6 {
				kind = "blackhole "
			}
			fmt.Fprintf(&text, "%s%s\n", kind, r.Dst)
		}
		return err
	})
	return text.String()
}

func (f *felix) dump(tables ...string) (answer *agentv1.DumpResponse) {
	f.Helper()
	f.ask(func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.Dump(ctx, &agentv1.DumpRequest{Tables: tables})
		return err
	})
	return answer
}

// ask calls the agent. The test fails if the call fails.
func (f *felix) ask(call func(context.Context, agentv1.AgentClient) error) {
	f.Helper()
	conn, err := grpc.NewClient("unix://"+f.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(f, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	must(f, call(ctx, agentv1.NewAgentClient(conn)))
}

// lock locks or unlocks a datastore, as margayctl datastore migrate lock and unlock do.
func lock(t *testing.T, store *datastore.Store, locked bool) {
	t.Helper()
	o, err := store.Get(context.Background(), api.Key{Kind: "ClusterInformation", Name: "default"})
	must(t, err)
	information, ready := *o.(*api.ClusterInformation), !locked
	information.Spec.DatastoreReady = &ready
	_, err = store.Update(context.Background(), &information)
	must(t, err)
}

// everything returns the whole datastore: each key and its value.
func everything(t *testing.T, store datastore.KV) map[string]string {
	t.Helper()
	page, err := store.Range(context.Background(), kv.Prefix("/"), 0, 1000)
	must(t, err)
	all := map[string]string{}
	for _, entry := range page.Entries {
		all[entry.Key] = string(entry.Value)
	}
	return all
}

// reserved reports whether IPAM has reserved an address for an endpoint of the host.
func (l *site) reserved(address string) bool {
	l.Helper()
	for _, block := range readBlocks(l, l.store.KV(), "host1").list {
		for _, r := range block.recorded {
			if r.addr == netip.MustParseAddr(address) {
				return true
			}
		}
	}
	return false
}
