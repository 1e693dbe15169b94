package main

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
)

// session is one run of the command, with everything outside of the process that it uses. A test replaces these fields.
type session struct {
	stdin        io.Reader
	stdout       *output
	stderr       io.Writer
	getenv       func(string) string
	log          *logrus.Entry
	embedded     string        // socket of the etcd that felix embeds
	patience     time.Duration // time to wait for a datastore that does not answer; 0 is the default of package etcd
	open         func(ctx context.Context, s *session) (store, func(), error)
	pause        func(ctx context.Context, d time.Duration) error
	now          func() time.Time
	interrupted  <-chan struct{}        // closed after SIGINT or SIGTERM
	felix        func() (string, error) // path of the program felix
	host         host
	interfaces   func() map[string][]netip.Addr  // of this machine, with their addresses
	links        func() (map[string]bool, error) // the names, alternative names and aliases of this machine's interfaces
	dumpXML      func(ctx context.Context, uri, domain string) ([]byte, error)
	terminal     bool // stderr is a terminal
	asks         bool // stdin and stderr are terminals: questions can be answered
	batchObjects int  // most objects that are written in one transaction

	config               string // --config
	agent                string // --agent
	logLevel             string
	selector             string // --selector, or -l of a verb that has it
	kubeContext          string
	allowVersionMismatch bool
}

func newSession(stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) *session {
	logger := logrus.New()
	logger.SetOutput(stderr)
	return &session{
		stdin: stdin, stdout: &output{Writer: stdout}, stderr: stderr, getenv: getenv,
		log: logrus.NewEntry(logger), embedded: embeddedSocket, open: openDatastore, pause: pause, now: time.Now,
		felix: findFelix, host: thisHost(), interfaces: interfacesHere, links: linksHere, dumpXML: dumpXML,
		terminal: isTerminal(stderr), asks: isTerminal(stdin) && isTerminal(stderr), batchObjects: batchObjects,
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
