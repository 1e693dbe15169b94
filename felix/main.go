package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/datastore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "felix:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	s, err := parseSettings(args, environ)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.showVersion {
		_, err := fmt.Fprintf(stdout, "felix %s (%s)\n", version, commit)
		return err
	}
	level, _ := logrus.ParseLevel(s.logLevel)
	logger := logrus.New()
	logger.SetOutput(stderr)
	logger.SetLevel(level)
	log := logrus.NewEntry(logger)
	if err := check(s.pinDir); err != nil {
		return err
	}
	return serve(ctx, log, s)
}

// check refuses to start where policy could not be enforced or where another agent enforces its own.
func check(pinDir string) error {
	if problems := dataplane.Check(pinDir); len(problems) > 0 {
		return errors.Join(problems...)
	}
	if other := dataplane.ForeignAgent(); other != "" {
		return fmt.Errorf("%s runs on this host and would fight over its interfaces and routes: stop and disable it first", other)
	}
	return nil
}

// serve builds the parts and runs the loop until ctx ends. What was enforced goes on being enforced after it returns.
func serve(ctx context.Context, log *logrus.Entry, s *settings) (err error) {
	listener, err := listenPrivately(s.agentSocket)
	if err != nil {
		return fmt.Errorf("agent socket: %w", err)
	}
	defer os.Remove(s.agentSocket)
	defer listener.Close()

	store, closeStore, err := openStore(ctx, log, s)
	if err != nil {
		return err
	}
	defer closeStore()

	driver, err := dataplane.New(dataplane.Options{Log: log.WithField("part", "dataplane"), PinDir: s.pinDir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	restarting, err := sameBoot(filepath.Dir(s.agentSocket), s.nodeName)
	if err != nil {
		log.WithError(err).Warn("BGP peers are not asked to keep routes over this restart")
	}
	speaker := bgp.New(log.WithField("part", "bgp"), bgp.Options{Restarting: restarting})
	defer speaker.Close()

	questions := make(chan func(*agent))
	stopServer := newServer(listener, questions)
	defer stopServer()

	a := newAgent(log, s, driver, speaker, store)
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { keepRegistering(ctx, log, store, s, findAddresses()) })
	background.Go(func() { a.reservations.run(ctx) })
	background.Go(func() { a.connection.run(ctx) })
	background.Go(func() { (&eventLog{log: log.WithField("part", "packets")}).run(ctx, driver) })
	log.WithFields(logrus.Fields{"node": s.nodeName, "version": version, "commit": commit}).Info("felix runs")
	a.run(ctx, store.Watch(ctx, log.WithField("part", "datastore")), questions)
	log.Info("felix ends; what is enforced stays in force")
	return nil
}

// openStore connects to etcd, or starts the one inside.
func openStore(ctx context.Context, log *logrus.Entry, s *settings) (*datastore.Store, func(), error) {
	embedded := (*datastore.Embedded)(nil)
	if s.embeddedDir != "" {
		var err error
		embedded, err = datastore.StartEmbedded(ctx, datastore.EmbeddedConfig{
			Dir: s.embeddedDir, ListenTCP: s.embeddedListen, Log: log.WithField("part", "etcd"),
		})
		if err != nil {
			return nil, nil, err
		}
		s.datastore.Endpoints = []string{embedded.Endpoint()}
	}
	etcd, err := datastore.Dial(ctx, s.datastore)
	if err != nil {
		if embedded != nil {
			embedded.Close()
		}
		return nil, nil, err
	}
	store := datastore.New(etcd)
	return store, func() {
		store.Close()
		if embedded != nil {
			embedded.Close()
		}
	}, nil
}

// sameBoot says whether a felix of this node ran since the machine was booted, and notes that one has.
func sameBoot(dir, node string) (bool, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	now := node + " " + strings.TrimSpace(string(boot)) + "\n"
	file := filepath.Join(dir, "boot")
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return string(before) == now, os.WriteFile(file, []byte(now), 0o600)
}
