package etcdlab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// memberProgram returns the path of the program that a member runs, and what its environment needs. It is the test binary, or,
// if that has the race detector, an etcd without it: the detector would look for races in etcd, not in our code, and make each
// member many times slower.
func memberProgram(t testing.TB) (path string, environment []string) {
	t.Helper()
	if !raceDetector {
		return os.Args[0], []string{memberVariable + "=1"}
	}
	program, err := plainServer()
	if err != nil {
		t.Fatalf("build etcd without the race detector: %v", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", program.Fd()), nil
}

// plainServer builds the etcd of go.mod once for the test's process.
var plainServer = sync.OnceValues(buildServer)

// buildServer returns the program as an open file that has no name any more: nothing is left of it when the process ends.
func buildServer() (*os.File, error) {
	dir, err := os.MkdirTemp("", "etcdlab")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "etcd")
	build := exec.Command("go", "build", "-race=false", "-ldflags=-s -w", "-o", path, "go.etcd.io/etcd/server/v3")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.Open(path)
}
