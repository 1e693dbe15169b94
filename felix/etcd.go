package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// etcdProcess runs the embedded etcd in a process of its own and starts it again when it ends. etcd ends its process when
// it cannot write, on a full disk above all; the agent must outlive that.
type etcdProcess struct {
	log    *logrus.Entry
	args   []string
	dir    string
	stderr io.Writer
	stop   context.CancelFunc
	ended  chan struct{} // closed once the process has ended for good

	mu     sync.Mutex
	outage error // why etcd does not run; nil while it does
}

const (
	etcdServes    = "etcd serves" // the first line of the process's output, once it takes requests
	firstRestart  = time.Second   // between an end and the next start, doubled up to the last
	lastRestart   = 30 * time.Second
	etcdStopGrace = 10 * time.Second
	// etcd allocates its log in segments of 64 MiB, and its process ends if it cannot allocate the next.
	etcdNeedsFree = 80 << 20
	roomInterval  = time.Second
)

// startEtcdProcess starts etcd and waits until it serves. A full disk is no error: etcd starts as soon as there is room.
func startEtcdProcess(ctx context.Context, log *logrus.Entry, s *settings, stderr io.Writer) (*etcdProcess, error) {
	ctx, stop := context.WithCancel(ctx)
	e := &etcdProcess{
		log: log, dir: s.embeddedDir, stderr: stderr, stop: stop, ended: make(chan struct{}),
		args: []string{"--etcd-only", "--embedded-etcd", s.embeddedDir, "--log-level", s.logLevel},
	}
	if s.embeddedListen != "" {
		e.args = append(e.args, "--embedded-etcd-listen", s.embeddedListen)
	}
	first := make(chan error, 1)
	go e.supervise(ctx, first)
	if err := <-first; err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// close stops etcd and leaves its data for the next start.
func (e *etcdProcess) close() {
	e.stop()
	<-e.ended
}

// problem says why etcd does not run; it is nil while etcd runs.
func (e *etcdProcess) problem() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outage
}

func (e *etcdProcess) note(outage error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outage = outage
}

// supervise keeps etcd running until ctx ends. It sends one value to first: the error of the first start, or nil.
func (e *etcdProcess) supervise(ctx context.Context, first chan<- error) {
	defer close(e.ended)
	runtime.LockOSThread() // the kernel ends a process with the thread that started it: see Pdeathsig
	defer runtime.UnlockOSThread()
	started := false
	for wait := firstRestart; ; wait = min(2*wait, lastRestart) {
		err := e.runOnce(ctx, func() {
			if started {
				e.log.Info("embedded etcd runs again")
			} else {
				first <- nil
			}
			started, wait = true, firstRestart
			e.note(nil)
		})
		if ctx.Err() != nil {
			if !started {
				first <- ctx.Err()
			}
			return
		}
		free, full := e.freeSpace()
		if full {
			err = fmt.Errorf("embedded etcd ended (%w): the disk of %s is full, with %d MiB free: make %d MiB free, and etcd starts again",
				err, e.dir, free>>20, etcdNeedsFree>>20)
		} else {
			err = fmt.Errorf("embedded etcd ended and is started again: %w", err)
		}
		if !started && !full {
			first <- errors.Unwrap(err)
			return
		}
		e.note(err)
		e.log.WithError(err).Error("the datastore does not run: policy in force stays as it is until etcd runs again")
		if !started {
			first <- nil
			started = true
		}
		if !e.awaitRoom(ctx, wait) {
			return
		}
	}
}

// awaitRoom waits for the given time, and then as long as the disk is full. It returns false if ctx ends before.
func (e *etcdProcess) awaitRoom(ctx context.Context, wait time.Duration) bool {
	for full := true; full; _, full = e.freeSpace() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		wait = roomInterval
	}
	return true
}

// freeSpace returns the free bytes on the disk of etcd's data, and whether they are too few for etcd.
func (e *etcdProcess) freeSpace() (free uint64, full bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(e.dir, &fs); err != nil {
		return 0, false
	}
	free = fs.Bavail * uint64(fs.Bsize)
	return free, free < etcdNeedsFree
}

// runOnce runs etcd until its process ends, and returns the reason. It calls ready when etcd serves.
func (e *etcdProcess) runOnce(ctx context.Context, ready func()) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", e.args...)
	cmd.Env = withoutSettings(os.Environ())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = etcdStopGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	reason := make(chan string)
	go func() { reason <- forwardLog(stderr, e.stderr) }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err == nil && strings.HasPrefix(line, etcdServes) {
		ready()
	}
	why := <-reason // its standard error ends with the process
	err = cmd.Wait()
	switch {
	case why != "":
		return errors.New(why)
	case err != nil:
		return err
	}
	return errors.New("its process was asked to end")
}

// withoutSettings leaves out the variables that are settings of felix: the arguments contain everything.
func withoutSettings(environ []string) (rest []string) {
	for _, entry := range environ {
		if !strings.HasPrefix(strings.ToUpper(entry), environmentPrefix) {
			rest = append(rest, entry)
		}
	}
	return rest
}

// errorPrefix begins the line that says why felix ends.
const errorPrefix = "felix: "

// forwardLog copies log lines, and returns the last line that says why the process ends.
func forwardLog(from io.Reader, to io.Writer) (why string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if reason, is := strings.CutPrefix(lines.Text(), errorPrefix); is {
			why = reason
		} else {
			fmt.Fprintln(to, lines.Text())
		}
	}
	_, _ = io.Copy(to, from) // the scanner stops at a line of more than 1 MiB
	return why
}

// serveEtcd runs only the embedded etcd, until ctx ends or etcd can no longer go on.
func serveEtcd(ctx context.Context, log *logrus.Entry, s *settings, stdout io.Writer) error {
	fatal := make(chan string, 1)
	server, err := embed.Start(ctx, embed.Config{
		Dir: s.embeddedDir, ListenTCP: s.embeddedListen, Log: log.WithField("part", "etcd"), Fatal: fatal,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, etcdServes, "at", server.Endpoint())
	select {
	case <-ctx.Done():
		server.Close()
		return nil
	case why := <-fatal:
		// etcd holds locks that it never gives back, so it cannot be closed. The kernel frees everything with the process.
		return fmt.Errorf("embedded etcd: %s", why)
	}
}
