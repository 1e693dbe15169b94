package datastore

import (
	"context"
	"net"
	"strings"
	"sync"
)

// trouble remembers why the last attempt to connect did not work, because a request that waits for a connection tells only
// that it waited.
type trouble struct {
	secure bool // a connection works only after its handshake

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
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || !t.secure {
		t.note(err)
	}
	return conn, err
}
