package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// The mesh has a password. It changes on one host, then on the other, and both agents notice.
func TestThePasswordOfTheMeshIsRotated(t *testing.T) {
	one, two := newRack(t)
	dirs := map[*site]string{one: t.TempDir(), two: t.TempDir()}
	write := func(on *site, password string) {
		t.Helper()
		file := filepath.Join(dirs[on], "bgp", "mesh")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one, "first-password")
	one.apply(`
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}}
`)
	f1 := one.start("FELIX_IP=198.51.100.1/24", "FELIX_SECRETSDIR="+dirs[one])
	f2 := two.start("FELIX_IP=198.51.100.2/24", "FELIX_SECRETSDIR="+dirs[two])
	f2.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 1 || s.Peers[0].State != "failed" || !strings.Contains(s.Peers[0].Error, "password from secret bgp/mesh: open ") {
			return fmt.Errorf("peers %v", s.Peers)
		}
		return nil
	})
	write(two, "first-password")
	f1.await(established)
	f2.await(established)
	since := f1.await(established).Peers[0].Since
	write(one, "second-password")
	f1.await(func(s *agentv1.StatusResponse) error {
		if s.Peers[0].State == "established" {
			return fmt.Errorf("peers %v", s.Peers)
		}
		return nil
	})
	write(two, "second-password")
	f1.await(established)
	f2.await(established)
	if s := f1.await(established); s.Peers[0].Since == since {
		t.Errorf("the session did not start anew: %v", s.Peers)
	}
}
