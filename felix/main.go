package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/dataplane/bgp/process"
	"github.com/margay-project/margay/datastore/etcd/embed"
)

// gcPercent trades processor time for memory: policy changes rarely, and the memory is for the machine's workloads. Calico has the
// same default. GOGC in the environment wins.
const gcPercent = 40

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if len(os.Args) == 2 && os.Args[1] == bgpProcess {
		serveBGP()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, errorPrefix+err.Error())
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
	log := newLog(stderr, s)
	switch {
	case s.uninstall:
		return uninstall(log, s)
	case s.checkOnly:
		if err := agentv1.PrintRequirements(stdout, requirements(s.pinDir)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, "this host has everything that felix needs")
		return err
	case s.etcdOnly:
		return serveEtcd(ctx, log, s, stdout)
	}
	if problems := dataplane.Check(s.pinDir); len(problems) > 0 {
		return errors.Join(problems...) // policy could not be enforced, or Calico's agent enforces its own
	}
	return serve(ctx, log, s, stderr)
}

func newLog(stderr io.Writer, s *settings) *logrus.Entry {
	level, err := logrus.ParseLevel(cmp.Or(s.parameters["logseverityscreen"], s.logLevel))
	if err != nil {
		level = logrus.InfoLevel // CheckParameters reports the invalid value
	}
	logger := logrus.New()
	logger.SetOutput(stderr)
	logger.SetLevel(level)
	return logrus.NewEntry(logger)
}

// serve builds the parts and runs the loop until ctx ends. Policy stays in force after it returns.
func serve(ctx context.Context, log *logrus.Entry, s *settings, stderr io.Writer) (err error) {
	driver, err := dataplane.New(dataplane.Options{Log: log.WithField("part", "dataplane"), PinDir: s.pinDir, RouteProtocols: formerProtocols(s)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	listener, err := listenPrivately(s.agentSocket)
	if err != nil {
		return fmt.Errorf("agent socket: %w", err)
	}
	defer os.Remove(s.agentSocket)
	defer listener.Close()

	outage := func() error { return nil }
	if s.embeddedDir != "" {
		etcd, err := startEtcdProcess(ctx, log.WithField("part", "etcd"), s, stderr)
		if err != nil {
			return err
		}
		defer etcd.close()
		outage = etcd.problem
		s.datastore.Endpoints = []string{embed.Endpoint(s.embeddedDir)}
	}
	restarting, err := sameBoot(bootFile(s), s.nodeName)
	if err != nil {
		log.WithError(err).Warn("felix cannot tell whether the machine was rebooted, so it does not ask BGP peers to keep its routes over this start")
	}
	speaker := process.New(process.Options{
		Log: log.WithField("part", "bgp"), Speaker: bgp.Options{Restarting: restarting, SecretsDir: s.secretsDir}, Command: bgpCommand, Stderr: stderr,
	})
	defer speaker.Close()

	questions := make(chan func(*agent))
	stopServer := newServer(listener, questions, s)
	defer stopServer()

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	a := newAgent(log, s, driver, speaker)
	a.connection.outage = outage
	a.reports.questions = questions
	connected := make(chan beginning, 1)
	background.Go(func() { a.serveDatastore(ctx, connected) })
	background.Go(func() { a.etcdAddresses.run(ctx) })
	background.Go(func() { a.resumption.run(ctx) })
	background.Go(func() { (&eventLog{log: log.WithField("part", "packets")}).run(ctx, driver) })
	log.WithFields(logrus.Fields{"node": s.nodeName, "version": version, "commit": commit}).Info("felix runs")
	for name, why := range calc.CheckParameters(s.parameters) {
		log.WithField("variable", name).Warn(why)
	}
	a.run(ctx, connected, questions)
	log.Info("felix ends; policy stays in force")
	return nil
}

// bootFile is the file in which felix notes that it has run since the machine was booted.
func bootFile(s *settings) string { return filepath.Join(filepath.Dir(s.agentSocket), "boot") }

// sameBoot says whether a felix of this node has run since the machine was booted, and notes that one has.
func sameBoot(file, node string) (bool, error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	now := node + " " + boot + "\n"
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return string(before) == now, os.WriteFile(file, []byte(now), 0o600)
}
