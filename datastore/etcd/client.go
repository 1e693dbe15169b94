package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/margay-project/margay/datastore/kv"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Config says how to reach etcd.
type Config struct {
	Endpoints                 []string      // http://HOST:PORT, https://HOST:PORT or unix:///PATH
	DiscoverySRV              string        // the domain whose SRV records name the endpoints; used if Endpoints is empty
	Username, Password        string        // both or neither
	KeyFile, CertFile, CAFile string        // PEM files; read for each connection, so they can be replaced at any time
	KeyPEM, CertPEM, CAPEM    string        // the same as text
	DialTimeout               time.Duration // of Dial; 0: 10s
	Log                       *logrus.Entry // for problems that do not end the connection; nil for no log
}

// Transport opens connections to etcd and asks the name servers.
type Transport struct {
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	DNS     Resolver
	Options []grpc.DialOption // further options of each connection
}

const (
	defaultDialTimeout = 10 * time.Second
	// The client notices a member that is cut off or hangs after the sum of these two. A server closes a connection with a shorter
	// interval.
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 5 * time.Second
	// The time to open a connection. Meanwhile the other members answer.
	connectTimeout = 5 * time.Second
	// The wait before a member that refused a connection is tried again: the first time, and at most.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second

	// timeout is the time for a request in all, patience the time before another member gets the same request.
	readTimeout   = 30 * time.Second
	readPatience  = 2 * time.Second
	writeTimeout  = 15 * time.Second
	writePatience = 5 * time.Second
	// A large value needs time for the way to the server, and for the members to write it to their disks: both of the above
	// grow by a second for so many bytes.
	slowestWrite = 256 << 10
)

// Client is a kv.KV in an etcd cluster. The caller closes it.
type Client struct {
	client  *clientv3.Client
	config  Config
	trouble *trouble
	close   func() // ends the goroutine of followRecords
}

// Dial connects to etcd and checks that it answers. An error is one line that says what to do.
func Dial(ctx context.Context, c Config) (*Client, error) {
	return DialOver(ctx, c, Transport{Dial: (&net.Dialer{}).DialContext, DNS: net.DefaultResolver})
}

// DialOver is Dial with another Transport, for example from another network namespace or with other name servers.
func DialOver(ctx context.Context, c Config, way Transport) (*Client, error) {
	if c.DialTimeout == 0 {
		c.DialTimeout = defaultDialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	if c.DiscoverySRV != "" && len(c.Endpoints) == 0 {
		var err error
		if c.Endpoints, err = discover(ctx, way.DNS, c.DiscoverySRV); err != nil {
			return nil, err
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	client := &Client{config: c, close: func() {}, trouble: &trouble{secure: c.secure(), dialer: way.Dial}}
	config := clientv3.Config{
		Endpoints:            c.Endpoints,
		DialTimeout:          c.DialTimeout,
		DialKeepAliveTime:    keepaliveInterval,
		DialKeepAliveTimeout: keepaliveTimeout,
		MaxCallSendMsgSize:   kv.MostBytes,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(client.trouble.dial), grpc.WithChainStreamInterceptor(openOnce), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry}, // the default is two minutes
			MinConnectTimeout: connectTimeout,
		})},
		Logger: zap.NewNop(),
	}
	config.DialOptions = append(config.DialOptions, way.Options...)
	if c.Username != "" {
		config.DialOptions = append(config.DialOptions, newSession(c.Username, c.Password).options()...)
	}
	if c.secure() {
		credentials, err := newFileCredentials(c, client.trouble)
		if err != nil {
			return nil, err
		}
		config.DialOptions = append(config.DialOptions, grpc.WithTransportCredentials(credentials))
	}
	connection, err := clientv3.New(config)
	if err != nil {
		return nil, client.explain(err)
	}
	client.client = connection
	// A refusal is an answer too: a user without access to this key may have access to keys of some kinds.
	if _, err := client.Range(ctx, kv.Single(kv.Root), 0, 1); err != nil && !Denied(err) {
		_ = connection.Close() // the first error is the one that matters
		return nil, err
	}
	if c.DiscoverySRV != "" {
		client.followRecords(way.DNS)
	}
	return client, nil
}

// check returns an error for settings that cannot work.
func (c Config) check() error {
	if len(c.Endpoints) == 0 {
		return errors.New("no etcd endpoint is configured: set ETCD_ENDPOINTS, or etcdEndpoints in the configuration file")
	}
	for _, endpoint := range c.Endpoints {
		scheme, rest, found := strings.Cut(endpoint, "://")
		if found && (rest == "" || (scheme != "http" && scheme != "https" && scheme != "unix")) {
			return fmt.Errorf("etcd endpoint %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", endpoint)
		}
	}
	if (c.Username == "") != (c.Password == "") {
		return errors.New("etcd user name and password must be given together: set both or neither of ETCD_USERNAME and ETCD_PASSWORD")
	}
	if (c.KeyFile == "") != (c.CertFile == "") || (c.KeyPEM == "") != (c.CertPEM == "") {
		return errors.New("the client's key and certificate must be given together: set both or neither of ETCD_KEY_FILE and ETCD_CERT_FILE")
	}
	return nil
}

// Range implements kv.KV.
func (c *Client) Range(ctx context.Context, span kv.Span, revision int64, limit int) (kv.Page, error) {
	var response *clientv3.GetResponse
	err := patiently(ctx, readTimeout, readPatience, func(ctx context.Context) (err error) {
		response, err = c.client.Get(ctx, span.From, clientv3.WithRange(span.To), clientv3.WithRev(revision),
			clientv3.WithLimit(int64(limit)), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		return err
	})
	if err != nil {
		return kv.Page{}, c.explain(err)
	}
	page := kv.Page{More: response.More, Revision: response.Header.Revision, Store: response.Header.ClusterId}
	for _, pair := range response.Kvs {
		page.Entries = append(page.Entries, entryOf(pair))
	}
	return page, nil
}

func entryOf(pair *mvccpb.KeyValue) kv.Entry {
	return kv.Entry{Key: string(pair.Key), Value: pair.Value, Revision: pair.ModRevision, Created: pair.CreateRevision}
}

// Lookup implements kv.KV.
func (c *Client) Lookup(ctx context.Context, keys []string) ([]*kv.Entry, int64, error) {
	var reads []clientv3.Op
	for _, key := range keys {
		reads = append(reads, clientv3.OpGet(key))
	}
	var response *clientv3.TxnResponse
	err := patiently(ctx, readTimeout, readPatience, func(ctx context.Context) (err error) {
		response, err = c.client.Txn(ctx).Then(reads...).Commit()
		return err
	})
	if err != nil {
		return nil, 0, c.explain(err)
	}
	var entries []*kv.Entry
	for _, answer := range response.Responses {
		entries = append(entries, before(answer))
	}
	return entries, response.Header.Revision, nil
}

// Commit implements kv.KV.
func (c *Client) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	var compares []clientv3.Cmp
	for _, condition := range conditions {
		if condition.Key != "" {
			compares = append(compares, clientv3.Compare(clientv3.ModRevision(condition.Key), "=", condition.Revision))
			continue
		}
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(condition.Span.From), "<", condition.Revision+1).WithRange(condition.Span.To))
	}
	var reads, puts []clientv3.Op
	for _, w := range writes {
		reads = append(reads, clientv3.OpGet(w.Key))
		if w.Delete {
			puts = append(puts, clientv3.OpDelete(w.Key, clientv3.WithPrevKV()))
		} else {
			puts = append(puts, clientv3.OpPut(w.Key, string(w.Value), clientv3.WithPrevKV()))
		}
	}
	size := 0
	for _, w := range writes {
		size += len(w.Value)
	}
	extra := time.Duration(size) * time.Second / slowestWrite
	attempts := 0
	var response *clientv3.TxnResponse
	commit := func(ctx context.Context) (err error) {
		attempts++
		// Both branches return the entries before the commit.
		response, err = c.client.Txn(ctx).If(compares...).Then(puts...).Else(reads...).Commit()
		return err
	}
	if err := repeatable(conditions, writes)(ctx, writeTimeout+extra, writePatience+extra, commit); err != nil {
		explained := c.explain(err)
		if isTimeout(err) {
			explained = advice{explained.Error() + "; it is not known whether the change was made: check before you repeat it", err}
		}
		return kv.Outcome{}, explained
	}
	outcome := kv.Outcome{Done: response.Succeeded, Revision: response.Header.Revision}
	for _, answer := range response.Responses {
		outcome.Current = append(outcome.Current, before(answer))
	}
	outcome.Echo = attempts > 1 && !outcome.Done && holds(outcome.Current, writes)
	return outcome, nil
}

// repeatable chooses how to repeat a commit that gets no answer. A commit that changes a key with a condition on its revision cannot
// take effect twice: it makes its own condition false for ever, because revisions only grow. A commit that only creates keys could,
// if somebody deletes them before a late first attempt takes effect.
func repeatable(conditions []kv.Condition, writes []kv.Write) func(context.Context, time.Duration, time.Duration, func(context.Context) error) error {
	ask := once
	for _, w := range writes {
		for _, c := range conditions {
			switch {
			case c.Key != w.Key:
			case c.Revision > 0:
				return patiently
			case !w.Delete:
				ask = unlessLate
			}
		}
	}
	return ask
}

// holds says whether the entries have the values that the writes wanted.
func holds(current []*kv.Entry, writes []kv.Write) bool {
	for i, w := range writes {
		if w.Delete != (current[i] == nil) || !w.Delete && !bytes.Equal(current[i].Value, w.Value) {
			return false
		}
	}
	return true
}

// before returns the entry of a key before an operation of a commit.
func before(answer *etcdserverpb.ResponseOp) *kv.Entry {
	var pair *mvccpb.KeyValue
	switch answer := answer.Response.(type) {
	case *etcdserverpb.ResponseOp_ResponsePut:
		pair = answer.ResponsePut.PrevKv
	case *etcdserverpb.ResponseOp_ResponseDeleteRange:
		if previous := answer.ResponseDeleteRange.PrevKvs; len(previous) > 0 {
			pair = previous[0]
		}
	case *etcdserverpb.ResponseOp_ResponseRange:
		if found := answer.ResponseRange.Kvs; len(found) > 0 {
			pair = found[0]
		}
	}
	if pair == nil {
		return nil
	}
	entry := entryOf(pair)
	return &entry
}

// Watch implements kv.KV.
func (c *Client) Watch(ctx context.Context, span kv.Span, from int64) <-chan kv.Changes {
	out := make(chan kv.Changes)
	responses := c.client.Watch(context.WithValue(clientv3.WithRequireLeader(ctx), watchStream{}, &atomic.Bool{}), span.From,
		clientv3.WithRange(span.To), clientv3.WithRev(from), clientv3.WithProgressNotify())
	go func() {
		defer close(out)
		for response := range responses {
			changes := c.changes(response)
			select {
			case out <- changes:
			case <-ctx.Done():
				return
			}
			if changes.Err != nil {
				return
			}
		}
	}()
	return out
}

// watchStream is the key of a flag in the context of a watch: whether its stream was opened.
type watchStream struct{}

// openOnce ends a watch when its stream ends. By itself, the client of etcd would continue over another connection. But another cluster
// may answer there, so the watcher must check first.
func openOnce(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	opened, isWatch := ctx.Value(watchStream{}).(*atomic.Bool)
	if isWatch && opened.Load() {
		return nil, status.Error(codes.Aborted, "the connection was lost")
	}
	stream, err := open(ctx, desc, conn, method, options...)
	if isWatch && err == nil {
		opened.Store(true)
	}
	return stream, err
}

func (c *Client) changes(response clientv3.WatchResponse) kv.Changes {
	if response.CompactRevision != 0 {
		return kv.Changes{Err: kv.ErrCompacted}
	}
	if err := response.Err(); err != nil {
		return kv.Changes{Err: c.explain(err)}
	}
	changes := kv.Changes{Revision: response.Header.Revision}
	if len(response.Events) > 0 {
		// While a watch catches up, the header has the newest revision of the store, not that of the events.
		changes.Revision = response.Events[len(response.Events)-1].Kv.ModRevision
	}
	for _, event := range response.Events {
		change := kv.Event{Entry: entryOf(event.Kv), Delete: event.Type == mvccpb.DELETE}
		changes.Events = append(changes.Events, change)
	}
	return changes
}

// Close implements kv.KV.
func (c *Client) Close() error {
	c.close()
	return c.client.Close()
}

// Endpoints returns the URLs of the members.
func (c *Client) Endpoints() []string {
	if c.client == nil {
		return c.config.Endpoints
	}
	return c.client.Endpoints()
}

// explain turns an error into one line that says what was tried, what went wrong and what to do.
func (c *Client) explain(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) {
		return kv.ErrCompacted
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	where, user := "etcd at "+strings.Join(c.Endpoints(), ","), c.config.Username
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	unreachable := Unreachable(err)
	if cause := c.trouble.text(); unreachable && cause != "" {
		text = cause
	}
	switch {
	case isAny(err, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthNotEnabled):
		return advice{fmt.Sprintf("%s refused user %q (%s): check ETCD_USERNAME and ETCD_PASSWORD", where, user, rpctypes.ErrorDesc(err)), err}
	case Denied(err):
		return advice{fmt.Sprintf("%s denies user %q access to the keys under %s: grant the user a role that may read and write them", where, user, kv.Root), err}
	case TooLarge(err):
		return advice{where + " does not accept an object of this size: split it, or raise the server's --max-request-bytes", err}
	case errors.Is(err, rpctypes.ErrNoSpace):
		return advice{where + " is full: compact and defragment it, then clear its alarm with etcdctl alarm disarm", err}
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		return advice{where + " does not speak TLS: use an http:// endpoint, or enable TLS there", err}
	case strings.Contains(text, "remote error: tls:") && c.config.CertFile+c.config.CertPEM == "":
		return advice{fmt.Sprintf("%s asks for a client certificate (%s): set ETCD_CERT_FILE and ETCD_KEY_FILE", where, text), err}
	case strings.Contains(text, "remote error: tls:"):
		return advice{fmt.Sprintf("%s refuses this client's certificate (%s): check ETCD_CERT_FILE and ETCD_KEY_FILE", where, text), err}
	case strings.Contains(text, "x509:") || strings.Contains(text, "tls:"):
		return advice{fmt.Sprintf("%s: %s: check ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE", where, text), err}
	case unreachable:
		return advice{fmt.Sprintf("%s does not answer (%s): check that it runs and can be reached, and ETCD_ENDPOINTS", where, text), err}
	}
	return fmt.Errorf("%s: %w", where, err)
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// TooLarge says whether a request has more bytes than the server or the client allows.
func TooLarge(err error) bool {
	if errors.Is(err, rpctypes.ErrRequestTooLarge) {
		return true
	}
	refusal, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	return ok && refusal.GRPCStatus().Code() == codes.ResourceExhausted && strings.Contains(refusal.Error(), "larger than max")
}

// TooMany says whether a commit has more writes or conditions than the server allows.
func TooMany(err error) bool { return errors.Is(err, rpctypes.ErrTooManyOps) }

// Denied says whether the user lacks the permission for a request.
func Denied(err error) bool { return errors.Is(err, rpctypes.ErrPermissionDenied) }

// Unreachable says whether a request got no answer. It is then not known whether it took effect.
func Unreachable(err error) bool {
	said, ok := errors.AsType[rpctypes.EtcdError](err)
	return isTimeout(err) || status.Code(err) == codes.Unavailable || ok && said.Code() == codes.Unavailable
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// advice is an error with a line for operators, which wraps its cause.
type advice struct {
	line  string
	cause error
}

func (a advice) Error() string { return a.line }
func (a advice) Unwrap() error { return a.cause }
