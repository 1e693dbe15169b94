package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab"
)

// smallDisk mounts a disk of its own for the embedded etcd.
func (l *site) smallDisk(megabytes int) {
	l.Helper()
	must(l, os.MkdirAll(l.etcdDir(), 0o700))
	must(l, unix.Mount("margay-test", l.etcdDir(), "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)))
	l.Cleanup(func() { _ = unix.Unmount(l.etcdDir(), unix.MNT_DETACH) })
}

// fillDisk writes a file until the disk of the embedded etcd has no free byte, and returns its path.
func (l *site) fillDisk() string {
	l.Helper()
	path := filepath.Join(l.etcdDir(), "filler")
	file, err := os.Create(path)
	must(l, err)
	defer file.Close()
	for chunk := bytes.Repeat([]byte{1}, 4096); ; {
		if _, err := file.Write(chunk); err != nil {
			return path
		}
	}
}

// dialEtcd connects the site's store to the etcd that felix runs.
func (l *site) dialEtcd() {
	l.Helper()
	lab.Await(l, func() error {
		client, err := etcd.Dial(context.Background(), etcd.Config{Endpoints: []string{l.endpoint()}, DialTimeout: time.Second})
		if err == nil {
			l.store = datastore.New(client)
			l.Cleanup(func() { client.Close() })
		}
		return err
	})
}

func (f *felix) awaitDatastoreError(parts ...string) {
	f.Helper()
	f.await(func(s *agentv1.StatusResponse) error { return lacksError(s, parts...) })
}

// lacksError returns an error if the datastore's error lacks one of the parts.
func lacksError(s *agentv1.StatusResponse, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(s.Datastore.Error, part) {
			return fmt.Errorf("the error of the datastore lacks %q: %v", part, s.Datastore)
		}
	}
	return nil
}

func TestFelixSurvivesAFullDiskOfTheEmbeddedEtcd(t *testing.T) {
	l := newSite(t)
	l.smallDisk(400) // etcd allocates two segments of 64 MiB at once
	f := l.launch([]string{"--embedded-etcd", l.etcdDir()})
	l.dialEtcd()
	l.web()
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)

	filler := l.fillDisk()
	f.await(func(s *agentv1.StatusResponse) error { // etcd ends when it has written more than it had allocated
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = l.store.KV().Commit(ctx, nil, []kv.Write{{Key: "/filler", Value: bytes.Repeat([]byte{2}, 1<<20)}})
		return lacksError(s, "embedded etcd ended", "no space left on device", "is full", "MiB free")
	})
	if !l.stillReaches(webAddress) {
		t.Error("traffic stops with etcd")
	}

	must(t, os.Remove(filler))
	f.await(connected(true))
	l.dialEtcd()
	l.apply(policy("closed", "web", "Deny"))
	l.awaitReach(webAddress, false)
	if f.log.Lines("goroutine ") != 0 {
		t.Error("the log has a stack trace")
	}
	f.terminate()
}

func TestFelixRestartsTheEmbeddedEtcdAfterACrash(t *testing.T) {
	l := newSite(t)
	f := l.launch([]string{"--embedded-etcd", l.etcdDir()})
	l.dialEtcd()
	l.web()
	f.awaitEnforced("cali-web")

	must(t, unix.Kill(f.awaitChild("--etcd-only"), unix.SIGKILL))
	f.awaitDatastoreError("embedded etcd ended and is started again")
	f.await(connected(true))
	l.dialEtcd()
	l.apply(policy("closed", "web", "Deny"))
	l.awaitReach(webAddress, false)

	// etcd always ends together with felix, so that the next felix can start its own.
	f.kill()
	f = l.launch([]string{"--embedded-etcd", l.etcdDir()})
	f.await(connected(true))
	f.terminate()
}

func TestFelixSaysWhyTheEmbeddedEtcdCannotStart(t *testing.T) {
	l := newSite(t)
	l.startEtcd() // this etcd uses the directory
	f := l.launch([]string{"--embedded-etcd", l.etcdDir()})
	<-f.process.Ended()
	if code := f.process.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	if want := "felix: embedded etcd: another process uses " + l.etcdDir(); !strings.Contains(f.log.String(), want) {
		t.Errorf("felix does not log %q", want)
	}
}
