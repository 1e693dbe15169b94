package ipam_test

import (
	"testing"

	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// BenchmarkAssignments is the test with many writers that die, with 10,000 assignments against etcd. Its time contains the releases,
// the deaths and the checks. Run it with -benchtime=1x.
func BenchmarkAssignments(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		b.StopTimer()
		server := etcdlab.StartServer(b, lab.ShortDir(b))
		store, err := etcd.Dial(b.Context(), etcd.Config{Endpoints: []string{server.Endpoint()}})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		runWriters(b, store, n)
		b.StopTimer()
		_ = store.Close()
		b.StartTimer()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "assignments/s")
}
