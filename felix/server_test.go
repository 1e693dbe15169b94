package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestTheSocketIsPrivateAndReplacesAStaleOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run", "felix.sock")
	first, err := listenPrivately(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := listenPrivately(path); err == nil || !strings.Contains(err.Error(), "another felix, of another network namespace, answers on "+path) {
		t.Errorf("error of a second felix: %v", err)
	}
	first.Close() // as after a crash: the file stays
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	second, err := listenPrivately(path)
	must(t, err)
	defer second.Close()
	conn, err := net.Dial("unix", path)
	must(t, err)
	conn.Close()
	left, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

// A client that gives up does not read an answer that the loop is still making.
func TestAClientMayGiveUpBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	questions := make(chan func(*agent))
	s := &server{questions: questions}
	ctx, giveUp := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		value, err := askLoop(ctx, s, func(*agent) (*int, error) { n := 1; return &n, nil })
		if value != nil {
			err = fmt.Errorf("an answer of %d", *value)
		}
		left <- err
	}()
	question := <-questions
	giveUp()
	if err := <-left; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	question(nil)
}
