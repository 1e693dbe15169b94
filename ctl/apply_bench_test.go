package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policyFile is a file of policies of a few rules each, in a tier of their own that comes first.
func policyFile(tb testing.TB, count, port int) string {
	tb.Helper()
	var text strings.Builder
	text.WriteString("apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: platform}\nspec: {order: 50}\n")
	for i := range count {
		fmt.Fprintf(&text, `---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: app-%05d
  labels: {team: app}
spec:
  tier: platform
  order: %d
  selector: app == 'app-%05d' && env in {'prod', 'stage'}
  ingress:
  - action: Allow
    protocol: TCP
    source: {selector: role == 'web'}
    destination: {ports: [80, %d]}
  - action: Deny
    source: {nets: [10.%d.%d.0/24]}
`, i, i, i, port, i/256, i%256)
	}
	file := filepath.Join(tb.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// BenchmarkApply is the time of the whole command against an etcd on the same machine: reading the file, checking, writing.
// The case "one by one" writes each object in a transaction of its own.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name         string
		batch, count int
	}{{"batches", batchObjects, 10_000}, {"one-by-one", 1, 1_000}} {
		b.Run(c.name, func(b *testing.B) {
			socket := embeddedEtcd(b)
			file, changed := policyFile(b, c.count, 443), policyFile(b, c.count, 8443)
			for _, run := range []struct {
				name         string
				before, args []string
			}{
				{"new", []string{"delete", "-s", "-f", file}, []string{"apply", "-f", file}},
				{"unchanged", []string{"apply", "-f", file}, []string{"apply", "-f", file}},
				{"changed", []string{"apply", "-f", file}, []string{"apply", "-f", changed}},
				{"delete", []string{"apply", "-f", file}, []string{"delete", "-f", file}},
			} {
				b.Run(run.name, func(b *testing.B) {
					for range b.N {
						b.StopTimer()
						mustRun(b, socket, batchObjects, run.before)
						b.StartTimer()
						mustRun(b, socket, c.batch, run.args)
					}
					b.ReportMetric(float64(b.N*(c.count+1))/b.Elapsed().Seconds(), "objects/s")
				})
			}
		})
	}
}

func mustRun(b *testing.B, socket string, batch int, args []string) {
	b.Helper()
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.embedded, s.batchObjects = socket, batch
	if code := s.run(b.Context(), args); code != 0 {
		b.Fatalf("exit code %d: %s", code, stderr.String())
	}
}
