package embed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/margay-project/margay/datastore/kv"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	etcdserver "go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// Config holds the settings of an etcd inside of this process.
type Config struct {
	Dir       string // directory of the data, created with mode 0700; it must survive a reboot
	ListenTCP string // HOST:PORT for other machines, which need no password; empty: only the unix socket
	Log       *logrus.Entry
	// Fatal receives the reason when the running server cannot go on, for example because its disk is full. The process
	// must end then: the server keeps its locks and cannot be closed. Without a channel the server panics.
	Fatal chan<- string
}

// Server is an etcd inside of this process. The caller closes it.
type Server struct {
	server *etcdserver.Etcd
	dir    string
	lock   *os.File // holds a flock while the server runs
	once   sync.Once

	closing atomic.Bool // set by Close
	serving atomic.Bool // set when the start has succeeded
}

const (
	socketName = "etcd.sock"
	peerName   = "peer.sock"
	quota      = 4 << 30 // bytes of data; etcd refuses writes above
	// The time for which history is kept. A watcher that was disconnected longer has to list everything again.
	keepHistory  = "1h"
	startTimeout = 30 * time.Second
	// The longest path of a unix socket in bytes (sun_path in linux/un.h).
	longestSocket = 107
)

// Start starts etcd with the data in the directory, or empty. It listens on a unix socket that only the user of this process can open.
// It returns when the server is ready. ctx ends only the start, not the server.
func Start(ctx context.Context, c Config) (*Server, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	lock, err := prepareDirectory(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, lock: lock}
	config, err := s.config(c)
	if err == nil {
		s.server, err = startServer(ctx, config)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(dir, socketName), 0o600)
	}
	if err != nil {
		s.Close()
		return nil, explainStart(c, err)
	}
	s.serving.Store(true)
	go s.report(c.Log, s.server.Err())
	return s, nil
}

// prepareDirectory creates the directory, makes it private, and locks it for this process.
func prepareDirectory(dir string) (*os.File, error) {
	if path := filepath.Join(dir, socketName); len(path) > longestSocket {
		return nil, fmt.Errorf("embedded etcd: the path of its socket %s is longer than %d characters: choose a shorter directory", path, longestSocket)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: create its directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: make its directory private: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded etcd: another process uses %s: stop it, or choose another directory", dir)
		}
		return nil, fmt.Errorf("embedded etcd: lock %s: %w", dir, err)
	}
	return lock, nil
}

func (s *Server) config(c Config) (*etcdserver.Config, error) {
	dir, config := s.dir, etcdserver.NewConfig()
	config.Name = "margay"
	config.Dir = filepath.Join(dir, "data")
	config.QuotaBackendBytes = quota
	config.AutoCompactionMode = etcdserver.CompactorModePeriodic
	config.AutoCompactionRetention = keepHistory
	config.MaxRequestBytes = kv.MostBytes
	config.EnableGRPCGateway = false
	config.ZapLoggerBuilder = etcdserver.NewZapLoggerBuilder(s.logger(c))
	socket := url.URL{Scheme: "unix", Path: filepath.Join(dir, socketName)}
	// For peers, etcd uses the host of the URL as the path of the socket. Without a host it would open a socket for every user.
	peer := url.URL{Scheme: "unix", Host: filepath.Join(dir, peerName)}
	config.ListenClientUrls = []url.URL{socket}
	// A single member has no peers, but the server needs a listener: it gets one that no other user can open.
	config.ListenPeerUrls = []url.URL{peer}
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	config.AdvertiseClientUrls = []url.URL{socket}
	config.InitialCluster = config.Name + "=http://localhost:2380"
	if c.ListenTCP != "" {
		if _, _, err := net.SplitHostPort(c.ListenTCP); err != nil {
			return nil, fmt.Errorf("listen address %q: want HOST:PORT", c.ListenTCP)
		}
		config.ListenClientUrls = append(config.ListenClientUrls, url.URL{Scheme: "http", Host: c.ListenTCP})
	}
	return config, nil
}

func startServer(ctx context.Context, config *etcdserver.Config) (server *etcdserver.Etcd, err error) {
	defer func() {
		if problem := recover(); problem != nil { // etcd panics if its data is damaged
			if _, own := problem.(runtime.Error); own {
				problem = "etcd cannot continue from it" // a runtime error comes from its cleanup and does not name the cause
			}
			server, err = nil, damaged(problem)
		}
	}()
	if err := checkDatabase(filepath.Join(config.Dir, "member", "snap", "db")); err != nil {
		return nil, err
	}
	server, err = etcdserver.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startTimeout):
		err = fmt.Errorf("not ready after %v", startTimeout)
	}
	server.Server.Stop()
	server.Close()
	return nil, err
}

// checkDatabase opens and closes the database. etcd opens it in a goroutine whose panic cannot be recovered.
func checkDatabase(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	database, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return damaged(err)
	}
	return database.Close()
}

func damaged(problem any) error {
	return fmt.Errorf("its data is damaged (%v): restore the directory from a backup, or move it away to start empty", problem)
}

func explainStart(c Config, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("embedded etcd: %s is in use by another process: stop it, or listen on another port", c.ListenTCP)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("embedded etcd: this machine has no address for %s", c.ListenTCP)
	}
	return fmt.Errorf("embedded etcd in %s: %w", c.Dir, err)
}

// Endpoint returns the URL of the server for clients on this machine.
func (s *Server) Endpoint() string { return Endpoint(s.dir) }

// Endpoint returns the URL of the embedded etcd with its data in dir, an absolute path.
func Endpoint(dir string) string { return "unix://" + filepath.Join(dir, socketName) }

// Close stops the server. Its data stays for the next start.
func (s *Server) Close() {
	s.once.Do(func() {
		s.closing.Store(true)
		if s.server != nil {
			s.server.Close()
		}
		_ = s.lock.Close() // which releases the lock
	})
}

// report logs the reason if the server stops by itself. Close ends it by closing the channel.
func (s *Server) report(log *logrus.Entry, stopped <-chan error) {
	for err := range stopped {
		if err != nil && log != nil && !s.closing.Load() {
			log.WithError(err).Error("embedded etcd stopped: policy can be neither read nor written until the agent is restarted")
		}
	}
}

// logger passes on the errors that etcd logs, except those caused by Close. It drops less severe messages.
func (s *Server) logger(c Config) *zap.Logger {
	core := zapcore.NewNopCore()
	if c.Log != nil {
		encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "message"})
		core = zapcore.NewCore(encoder, lineWriter{c.Log, &s.closing}, zapcore.ErrorLevel)
	}
	hook := fatalHook{&s.serving, c.Fatal}
	return zap.New(core, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

// fatalHook runs when etcd would end the process. During the start it panics, and startServer turns the panic into an error. Later it
// sends the reason to fatal and blocks the goroutine for ever.
type fatalHook struct {
	serving *atomic.Bool
	fatal   chan<- string
}

// OnWrite implements zapcore.CheckWriteHook.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	why := entry.Message
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok {
			why += ": " + err.Error()
		}
	}
	if h.fatal == nil || !h.serving.Load() {
		panic(why)
	}
	select {
	case h.fatal <- why:
	default: // only the first reason matters
	}
	select {} // the process must end; to continue would write to a database in an unknown state
}

type lineWriter struct {
	log     *logrus.Entry
	closing *atomic.Bool
}

func (w lineWriter) Write(line []byte) (int, error) {
	if !w.closing.Load() {
		w.log.Warnf("embedded etcd: %s", bytes.TrimSpace(line))
	}
	return len(line), nil
}

func (lineWriter) Sync() error { return nil }
