package datastore

import (
	"context"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

func TestMain(m *testing.M) {
	etcdlab.BecomeMember()
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	os.Exit(m.Run())
}

// exercise is a cluster under writes, and a watch of it, over a connection each.
type exercise struct {
	*testing.T
	*etcdlab.Cluster
	config   etcd.Config // how all connections prove who they are
	consumer *consumer
	writers  *writers
	observed *observed // the watch's connection
}

// observed notes what a watch asks of the cluster.
type observed struct {
	*etcd.Client

	began time.Time

	mu       sync.Mutex
	requests int // all that is read
	lists    int // pages of everything
	streams  []grpc.ClientStream
}

func (o *observed) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	o.mu.Lock()
	o.requests++
	if limit > 1 {
		o.lists++
	}
	o.mu.Unlock()
	return o.Client.Range(ctx, span, revision, limit)
}

// open is a stream interceptor that remembers the streams.
func (o *observed) open(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, options...)
	if err == nil {
		o.mu.Lock()
		o.streams = append(o.streams, stream)
		o.mu.Unlock()
	}
	return stream, err
}

// onlyRead demands that everything was read some times, and not much more.
func (o *observed) onlyRead(t *testing.T, times int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Logf("the watch made %d requests, of them %d pages of lists, and opened %d streams", o.requests, o.lists, len(o.streams))
	if want := times * len(listedSpans); o.lists != want {
		t.Errorf("the watch read %d pages, want %d", o.lists, want)
	}
	// A check reads a key, and if that has changed, reads it again as it was.
	checks := int(time.Since(o.began) / checkInterval)
	if most := 40 + 2*checks; o.requests > most || len(o.streams) > most {
		t.Errorf("the watch made %d requests and opened %d streams, want at most %d", o.requests, len(o.streams), most)
	}
}

// watched is the member that serves the watch.
func (e *exercise) watched() *etcdlab.Member {
	e.Helper()
	if at, ok := peer.FromContext(e.stream().Context()); ok {
		for _, m := range e.Members {
			if strings.HasPrefix(at.Addr.String(), m.Address+":") {
				return m
			}
		}
	}
	e.Fatal("nobody knows who serves the watch")
	return nil
}

// newExercise starts a cluster, a writer and a watch.
func newExercise(t *testing.T, o etcdlab.Options) *exercise {
	t.Helper()
	t.Parallel()
	e := &exercise{T: t, Cluster: etcdlab.StartCluster(t, o)}
	e.begin()
	return e
}

// begin starts the writers and the watch.
func (e *exercise) begin() {
	e.Helper()
	t, s := e.T, New(e.connect())
	answered(t, func() error { return s.EnsureInitialized(testContext(t)) })
	e.writers = startWriters(t, s)
	e.consume()
	e.settle("it runs")
}

// consume starts the watch.
func (e *exercise) consume() {
	e.Helper()
	e.observed = &observed{began: time.Now()}
	e.observed.Client = e.connect(grpc.WithChainStreamInterceptor(e.observed.open))
	e.consumer = consume(e.T, testContext(e), New(e.observed))
	e.consumer.until("in sync", func() bool { return e.consumer.last.InSync })
}

// connect dials the cluster from its client's namespace.
func (e *exercise) connect(options ...grpc.DialOption) *etcd.Client {
	e.Helper()
	return e.dial(e.Endpoints(), e.Client, options...)
}

func (e *exercise) dial(endpoints []string, from etcdlab.Port, options ...grpc.DialOption) *etcd.Client {
	e.Helper()
	c := e.config
	c.Endpoints, c.DialTimeout = endpoints, lab.Patience // members may still find each other
	store, err := etcd.DialOver(testContext(e), c, etcd.Transport{Dial: from.DialContext, Options: options})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = store.Close() })
	return store
}

// from dials a member from its own namespace, which no split cuts.
func (e *exercise) from(m *etcdlab.Member) *etcd.Client { return e.dial([]string{m.URL}, m.Port) }

func (e *exercise) stream() grpc.ClientStream {
	e.observed.mu.Lock()
	defer e.observed.mu.Unlock()
	return e.observed.streams[len(e.observed.streams)-1]
}

// notices waits until the watch has given up the stream that it has.
func (e *exercise) notices(what string) {
	e.Helper()
	select {
	case <-e.stream().Context().Done():
	case <-time.After(lab.Patience):
		e.Fatalf("the watch does not notice: %s", what)
	}
}

// settle waits until the watch works, as a write shows that is made after whatever happened.
func (e *exercise) settle(what string) {
	e.Helper()
	n := e.writers.count()
	e.consumer.until(what+", and then writes", func() bool { return e.writers.count() >= n+20 && e.consumer.last.Revision >= e.writers.newest() })
}

// finish demands that nothing was lost, nothing came twice, and nothing came out of order; and that the watch has read
// everything so many times in all.
func (e *exercise) finish(times int) {
	e.Helper()
	e.writers.stop()
	store := e.connect()
	last := raw(e.T, store, policies+"last", "{}")
	e.consumer.until("everything that was written", e.consumer.reached(last))
	if diff := cmp.Diff(listed(e.T, New(store)), e.consumer.known); diff != "" {
		e.Errorf("-listed +watched\n%s", diff)
	}
	e.writers.check(e.consumer.history)
	e.Logf("%d writes acknowledged, %d refused, %d without an answer", len(e.writers.acknowledged), e.writers.refused, e.writers.unanswered)
	e.observed.onlyRead(e.T, times)
}
