package datastore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// onEveryVersion runs a test with the oldest server that is supported and with the newest.
func onEveryVersion(t *testing.T, test func(t *testing.T, o etcdlab.Options)) {
	for name, o := range map[string]etcdlab.Options{"newest": {}, "oldest": {Old: true}} {
		t.Run(name, func(t *testing.T) { test(t, o) })
	}
}

func TestMembersOfTheClusterDie(t *testing.T) {
	onEveryVersion(t, func(t *testing.T, o etcdlab.Options) {
		e := newExercise(t, o)
		for what, victim := range map[string]func() *etcdlab.Member{
			"a follower":                       func() *etcdlab.Member { return e.Follower(t) },
			"the leader":                       func() *etcdlab.Member { return e.Leader(t) },
			"the member that serves the watch": e.watched,
		} {
			m := victim()
			m.Kill()
			e.settle(what + " died")
			m.Start(t)
			m.Await(t)
			e.settle(what + " is back")
		}
		e.finish(1)
	})
}

func TestAllMembersOfTheClusterDie(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	e.Kill()
	lab.LetPass(2 * time.Second) // writers and watch go on asking
	e.StartAll(t)
	e.settle("all are back")
	e.finish(1)
}

// A member that has lost the others still serves its own state: the watch must not stay with it.
func TestTheWatchLeavesAMemberWithoutALeader(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	m := e.watched()
	e.SplitPeers(t, m)
	e.settle("the member that serves the watch is on its own")
	if e.watched() == m {
		t.Error("the watch stays there")
	}
	e.Heal(t)
	e.settle("it is back")
	e.finish(1)
}

func TestTheWatchLeavesAMemberThatIsOutOfReach(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	m := e.watched()
	e.Split(t, nil, m)
	e.settle("the member that serves the watch is cut off")
	e.Heal(t)
	e.settle("it is back")
	e.finish(1)
}

func TestTheClientIsLeftWithTheMinority(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	acknowledged := e.writers.count()
	with, against := e.watched(), e.Members[0]
	if with == against {
		against = e.Members[1]
	}
	e.Split(t, []etcdlab.Port{e.Client}, with)
	e.notices("the member that serves it has no leader")
	other := e.from(against)
	at := raw(t, other, policies+"z", string(entry("z", "has(meanwhile)", 0).Value))
	if n := e.writers.count() - acknowledged; n > 3*writerCount {
		t.Errorf("%d writes were acknowledged by a minority", n)
	}
	e.Heal(t)
	e.consumer.until("what happened on the other side", e.consumer.reached(at))
	e.settle("all are together")
	e.finish(1)
}

func TestAMemberHangs(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	m := e.watched()
	m.Freeze(t)
	e.settle("the member that serves the watch hangs")
	m.Thaw(t)
	e.settle("it goes on")
	e.finish(1)
}

// An object that was created and deleted must not come back when a member resumes that had received the first request to create it.
func TestADeletedObjectStaysDeletedWhenAMemberGoesOn(t *testing.T) {
	t.Parallel()
	cluster := etcdlab.StartCluster(t, etcdlab.Options{})
	e := &exercise{T: t, Cluster: cluster}
	client, hung := e.connect(), cluster.Follower(t)
	create := func(i int) error {
		key := policies + fmt.Sprint("p", i)
		_, err := client.Commit(testContext(t), []Condition{{Key: key}}, []Write{{Key: key, Value: []byte("{}")}})
		return err
	}
	for i := range 20 { // until it has a connection to every member
		answered(t, func() error { return create(i) })
	}
	hung.Freeze(t)
	var running sync.WaitGroup
	errs := make([]error, 30)
	for i := 20; i < len(errs); i++ {
		running.Go(func() { errs[i] = create(i) })
	}
	running.Wait()
	other := e.from(cluster.Leader(t))
	unknown := 0
	for i := 20; i < len(errs); i++ {
		if errs[i] != nil {
			unknown++
			if want := "it is not known whether the change was made"; !strings.Contains(errs[i].Error(), want) {
				t.Errorf("%v: lacks %q", errs[i], want)
			}
			continue
		}
		commit(t, other, Write{Key: policies + fmt.Sprint("p", i), Delete: true})
	}
	hung.Thaw(t)
	hung.Await(t)
	lab.LetPass(time.Second) // the deleted objects must not come back
	for i := 20; i < len(errs); i++ {
		page, err := other.Range(testContext(t), kv.Single(policies+fmt.Sprint("p", i)), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if errs[i] == nil && len(page.Entries) > 0 {
			t.Errorf("p%d was deleted and is back", i)
		}
	}
	t.Logf("%d of 10 writes without an answer", unknown)
	if unknown == 0 {
		t.Error("the member that hangs was not asked")
	}
}

func TestAMemberIsSlow(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	for range 5 {
		m := e.watched()
		m.Freeze(t)
		lab.LetPass(300 * time.Millisecond) // less than the others would miss it after
		m.Thaw(t)
		e.settle("a member was slow")
	}
	e.finish(1)
}

func TestHistoryIsCompactedWhileTheWatchIsCutOff(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	m := e.watched()
	e.Split(t, []etcdlab.Port{e.Client})
	m.Restart(t)
	leader := e.Leader(t)
	other := e.from(leader)
	raw(t, other, policies+"y", string(entry("y", "all()", 0).Value))
	at := raw(t, other, policies+"z", string(entry("z", "all()", 0).Value))
	commit(t, other, Write{Key: policies + "y", Delete: true})
	answered(t, func() error { return compactBefore(testContext(t), leader.Client(t), at+1) })
	e.Heal(t)
	e.consumer.until("what happened meanwhile", e.consumer.reached(at))
	e.settle("all are together")
	e.finish(2)
}

func TestAMemberLosesItsData(t *testing.T) {
	e := newExercise(t, etcdlab.Options{})
	lost := e.watched()
	lost.Kill()
	lost.Wipe(t)
	e.settle("a member has lost its data")
	lost.Replace(t)
	e.settle("it was added anew")
	e.finish(1)
}

const fullAt = 8 << 20 // of the cluster that gets full

func TestTheClusterIsFull(t *testing.T) {
	onEveryVersion(t, func(t *testing.T, o etcdlab.Options) {
		o.Arguments = []string{fmt.Sprintf("--quota-backend-bytes=%d", fullAt)}
		e := newExercise(t, o)
		store, ctx := e.connect(), testContext(t)
		e.consumer.until("a policy", e.consumer.reached(raw(t, store, policies+"z", string(entry("z", "all()", 0).Value))))
		resume := e.writers.pause()
		defer resume()
		var err error
		for i := 0; err == nil || etcd.Unreachable(err); i++ {
			_, err = store.Commit(ctx, nil, []Write{{Key: fmt.Sprintf("/filler/%d", i), Value: make([]byte, 1<<20)}})
		}
		for _, part := range []string{"is full", "compact and defragment", "etcdctl alarm disarm"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
		if _, err := store.Range(ctx, kv.Prefix(policies), 0, 10); err != nil {
			t.Errorf("it cannot be read: %v", err)
		}
		// Deletions free space: they are allowed, and told.
		e.consumer.until("the deletion", e.consumer.reached(commit(t, store, Write{Key: policies + "z", Delete: true})))
		e.makeRoom()
		resume()
		e.settle("there is room again")
		e.finish(1)
	})
}

// makeRoom follows the advice in the error.
func (e *exercise) makeRoom() {
	e.Helper()
	ctx, admin := testContext(e), e.Leader(e).Client(e)
	answered(e, func() error {
		deleted, err := admin.Delete(ctx, "/filler/", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		return compactBefore(ctx, admin, deleted.Header.Revision)
	})
	for _, m := range e.Members {
		for size := int64(fullAt); size > fullAt/2; { // the other members compact in their own time
			answered(e, func() error {
				if _, err := m.Client(e).Defragment(ctx, m.URL); err != nil {
					return err
				}
				status, err := m.Client(e).Status(ctx, m.URL)
				if err == nil {
					size = status.DbSize
				}
				return err
			})
		}
	}
	answered(e, func() error {
		_, err := admin.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		return err
	})
}

// compactBefore forgets the history before a revision. It may be repeated.
func compactBefore(ctx context.Context, admin *clientv3.Client, revision int64) error {
	_, err := admin.Compact(ctx, revision, clientv3.WithCompactPhysical())
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return err
}

// A restored cluster continues with revisions that were used before for other contents.
func TestTheClusterIsRestoredFromABackup(t *testing.T) {
	for name, ahead := range map[string]int{"behind": 1, "ahead": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &exercise{T: t, Cluster: etcdlab.StartCluster(t, etcdlab.Options{})}
			store := e.connect()
			for i := range 10 {
				raw(t, store, policies+fmt.Sprint("kept", i), string(entry("", "all()", 0).Value))
			}
			e.Kill()
			restore := e.Backup(t)
			e.StartAll(t)
			e.consume()
			var at int64
			for i := range 20 {
				at = raw(t, store, policies+fmt.Sprint("lost", i), string(entry("", "all()", 0).Value))
			}
			e.consumer.until("what will be lost", e.consumer.reached(at))

			e.Split(t, []etcdlab.Port{e.Client})
			e.Kill()
			restore(t)
			e.StartAll(t)
			other := e.from(e.Leader(t))
			for i := range ahead {
				raw(t, other, policies+fmt.Sprint("new", i), string(entry("", "has(new)", 0).Value))
			}
			e.Heal(t)
			want := listed(t, New(other))
			e.consumer.restored = true
			e.consumer.until("what was restored", func() bool { return cmp.Equal(want, e.consumer.known) })
			e.observed.onlyRead(t, 2)
		})
	}
}

// TestACommitWhoseAnswerIsLostIsMadeOnce loses the answers of random commits, of those that were made and of those that
// were not.
func TestACommitWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	var lose atomic.Int64 // the answers of this many transactions
	way := etcd.Transport{Dial: (&net.Dialer{}).DialContext, Options: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			if method != pb.KV_Txn_FullMethodName || lose.Add(-1) < 0 {
				return invoke(ctx, method, request, reply, conn, options...)
			}
			if lose.Load()%2 == 0 { // every other one does not even arrive
				_ = invoke(ctx, method, request, reply, conn, options...)
			}
			return status.Error(codes.Unavailable, "the connection broke")
		})}}
	lossy, err := etcd.DialOver(testContext(t), etcd.Config{Endpoints: []string{etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()}}, way)
	if err != nil {
		t.Fatal(err)
	}
	defer lossy.Close()
	ctx, s := testContext(t), New(lossy)
	if err := s.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	revision := func() int64 {
		page, err := lossy.Range(ctx, kv.Single(rootKey), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		return page.Revision
	}
	start := revision()
	for lost := range int64(4) {
		lose.Store(lost)
		o := must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, policy("a", "all()")))
		lose.Store(lost)
		o.Spec.Selector = "has(x)"
		o = must[*api.GlobalNetworkPolicy](t)(s.Update(ctx, o))
		if read := must[*api.GlobalNetworkPolicy](t)(s.Get(ctx, api.KeyOf(o))); !cmp.Equal(read, o, cmpopts.EquateEmpty()) {
			t.Errorf("%d answers lost: %s", lost, cmp.Diff(read, o, cmpopts.EquateEmpty()))
		}
		lose.Store(lost)
		if _, err := s.Delete(ctx, api.KeyOf(o), o.ResourceVersion); err != nil {
			t.Errorf("%d answers lost: %v", lost, err)
		}
		lose.Store(0)
		if got, want := revision(), start+3*(lost+1); got != want {
			t.Errorf("%d answers lost: revision %d, want %d: something was written twice", lost, got, want)
		}
	}
	// A write that could be made twice is not tried again, and a write of others meanwhile is a conflict.
	lose.Store(1)
	if _, err := lossy.Commit(ctx, nil, []Write{{Key: policies + "b", Value: []byte("{}")}}); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("without a condition: %v", err)
	}
	lose.Store(0)
	o := must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, policy("c", "all()")))
	raw(t, lossy, policies+"c", string(entry("c", "has(other)", 0).Value))
	lose.Store(1)
	if _, err := s.Update(ctx, o); !errors.As(err, new(ConflictError)) {
		t.Errorf("after another writer: %v", err)
	}
}
