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

// trouble remembers why the last attempt to connect failed. The error of a request that waits for a connection does not say it.
type trouble struct {
	secure bool // with TLS, an attempt has succeeded only after the handshake
	dialer func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	last error
}

// note stores the outcome of an attempt. nil, a success, clears it.
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

// patiently repeats a request while there is no answer, each time with twice the patience. The members take turns, so that one that
// hangs does not delay a request that another would answer. A member without a leader refuses at once.
func patiently(ctx context.Context, timeout, patience time.Duration, ask func(context.Context) error) error {
	return repeatedly(ctx, timeout, patience, true, ask)
}

// unlessLate repeats a request after a broken connection, but not after a timeout: a member that hangs still has the request, and may
// carry it out later.
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

// once never repeats a request.
func once(ctx context.Context, timeout, _ time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), timeout)
	defer cancel()
	return ask(ctx)
}

// pause is the average wait between a refusal and the request to the next member.
const pause = 100 * time.Millisecond
