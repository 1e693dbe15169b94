package datastore

import (
	"fmt"
	"testing"

	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// BenchmarkFirstList tells a consumer of 20,000 workload endpoints.
func BenchmarkFirstList(b *testing.B) {
	const count = 20_000
	store := kvtest.NewMemory()
	for i := range count {
		name := fmt.Sprintf("node%d-libvirt-vm%d-eth0", i%500, i)
		value := fmt.Sprintf(`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"namespace":"prod",`+
			`"uid":"c7bacbbf-cc2f-451a-b6ea-520e53fb2725","creationTimestamp":"2026-11-20T16:09:49Z","labels":{"app":"fe","zone":"z%d",`+
			`"projectcalico.org/namespace":"prod","projectcalico.org/orchestrator":"libvirt"}},"spec":{"orchestrator":"libvirt",`+
			`"workload":"vm%d","node":"node%d","endpoint":"eth0","ipNetworks":["10.%d.%d.%d/32"],"profiles":["vm-default"],`+
			`"interfaceName":"tap%d","mac":"02:00:00:00:00:01"}}`, name, i%5, i, i%500, i>>16, i>>8&255, i&255, i%1000)
		write := Write{Key: resourceRoot + "workloadendpoints/prod/" + name, Value: []byte(value)}
		if _, err := store.Commit(testContext(b), nil, []Write{write}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		w := &watcher{kv: store, log: quiet(), view: newView(), out: make(chan Batch, 2*count/pageBatch)}
		if err := w.list(testContext(b)); err != nil {
			b.Fatal(err)
		}
		if len(w.view.records) != count || len(w.view.invalid) != 0 {
			b.Fatalf("%d records, invalid %v", len(w.view.records), w.view.invalid)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/object")
}

const pageBatch = 100

// BenchmarkPutToWatch changes a policy and waits until a consumer has been told.
func BenchmarkPutToWatch(b *testing.B) {
	server := etcdlab.StartServer(b, lab.ShortDir(b))
	store := dial(b, server.Endpoint())
	ctx := testContext(b)
	batches := New(store).Watch(ctx, quiet())
	for batch := range batches {
		if batch.InSync {
			break
		}
	}
	for i := 0; b.Loop(); i++ {
		value := entry("a", fmt.Sprintf("x == '%d'", i), 0).Value
		if _, err := store.Commit(ctx, nil, []Write{{Key: policies + "a", Value: value}}); err != nil {
			b.Fatal(err)
		}
		for batch := range batches {
			if len(batch.Updates) > 0 {
				break
			}
		}
	}
}
