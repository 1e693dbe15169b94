package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

const serverVariable = "FELIX_TEST_LISTEN"

// becomeServer makes a copy of the test program listen at an address. The process has the name of the copy's file.
func becomeServer() {
	if at := os.Getenv(serverVariable); at != "" {
		if _, err := net.Listen("tcp", at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("listens")
		select {}
	}
}

// server runs a program with a given name on the host. The program listens at an address.
func (l *site) server(name, at string) {
	l.Helper()
	self, err := os.Executable()
	must(l, err)
	file := filepath.Join(l.dir, name)
	if err := os.Link(self, file); err != nil { // on another file system
		text, err := os.ReadFile(self)
		must(l, err)
		must(l, os.WriteFile(file, text, 0o755))
	}
	cmd := exec.Command(file)
	var out lab.Output
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), serverVariable+"="+at), &out, &out
	l.host.Start(cmd)
	out.AwaitText(l, "listens")
}

func TestAnUnreachableSSHServerIsReported(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.server("sshd", ":2222")
	l.apply(openProfile + `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host1-eth0}
spec: {node: host1, interfaceName: eth0}
---
`)
	f := l.startSynced()
	f.awaitProblem("HostEndpoint(host1-eth0)", "nobody can connect to port 2222, on which sshd listens on this machine", "failsafeInboundHostPorts")
	told := func(s *agentv1.StatusResponse) error {
		for _, p := range s.Problems {
			if strings.Contains(p.Text, "2222") {
				return errors.New(p.Text)
			}
		}
		return nil
	}
	l.apply(`
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: office}
spec:
  selector: all()
  ingress:
  - {action: Deny, source: {notNets: [198.51.100.0/24]}}
  - {action: Allow, protocol: TCP, destination: {ports: [2222]}}
---
`)
	f.await(told)
}
