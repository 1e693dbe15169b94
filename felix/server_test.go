package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
