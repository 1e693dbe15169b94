package etcd

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// trouble remembers why the last attempt to connect did not work, because a request that waits for a connection tells only
// that it waited.
type trouble struct {
	secure bool // a connection works only after its handshake
	dialer func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	last error
}

// note remembers the outcome of an attempt; nil forgets what was.
func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
}

func (t *trouble) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		return ""
	}
	return strings.ReplaceAll(t.last.Error(), "\n", " ")
}

// dial opens a connection to HOST:PORT or unix:PATH.
func (t *trouble) dial(ctx context.Context, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", strings.TrimPrefix(path, "//")
	}
	conn, err := t.dialer(ctx, network, address)
	if err != nil || !t.secure {
		t.note(err)
	}
	return conn, err
}

// patiently asks again while there is no answer, each time with more patience: the members take turns, and one that hangs
// must not hold up what another would answer. One without a leader, which cannot answer either, says so at once.
func patiently(ctx context.Context, timeout, patience time.Duration, ask func(context.Context) error) error {
	return repeatedly(ctx, timeout, patience, true, ask)
}

// unlessLate is for what may be asked again where the connection broke, but not where the answer did not come in time: a
// member that hangs still has the question, and may act on it whenever it goes on.
func unlessLate(ctx context.Context, timeout, patience time.Duration, ask func(context.Context) error) error {
	return repeatedly(ctx, timeout, patience, false, ask)
}

func repeatedly(ctx context.Context, timeout, patience time.Duration, evenLate bool, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), timeout)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, patience)
		err := ask(attempt)
		end()
		if err == nil || ctx.Err() != nil || !Unreachable(err) {
			return err
		}
		if attempt.Err() != nil {
			if isTimeout(err) && !evenLate {
				return err
			}
			patience *= 2
			continue
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}

// once is for what must not be asked again.
func once(ctx context.Context, timeout, _ time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), timeout)
	defer cancel()
	return ask(ctx)
}

// pause is how long to wait, on the average, before the next member is asked after one that refused.
const pause = 100 * time.Millisecond
