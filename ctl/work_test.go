package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// transcript is the visible result of a run of the command.
type transcript struct {
	Code           int
	Stdout, Stderr string
	Stored         map[string]string
}

// runOn runs the command on a KV, that many objects at a time.
func runOn(t *testing.T, kv datastore.KV, batch int, args ...string) transcript {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(kv), func() {}, nil }
	s.pause = func(context.Context, time.Duration) error { return nil }
	s.batchObjects = batch
	code := s.run(t.Context(), args)
	return transcript{code, stdout.String(), stderr.String(), contents(t, kv)}
}

var ownToEachRun = regexp.MustCompile(`"(uid|creationTimestamp|clusterGUID)":"[^"]*"`)

// contents returns the content of a KV, without the parts that differ in each run.
func contents(t *testing.T, kv datastore.KV) map[string]string {
	t.Helper()
	page, err := kv.Range(t.Context(), datastore.Span{From: "/", To: "0"}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]string{}
	for _, entry := range page.Entries {
		stored[entry.Key] = ownToEachRun.ReplaceAllString(string(entry.Value), `"$1":""`)
	}
	return stored
}

// TestBatchesHaveTheOutcomeOfOneByOne gives random inputs, of which many objects are refused, to each verb that writes.
func TestBatchesHaveTheOutcomeOfOneByOne(t *testing.T) {
	t.Parallel()
	base := uint64(time.Now().UnixNano())
	for round := range uint64(150) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			seed := base + round
			random := rand.New(rand.NewPCG(seed, 1))
			begin := manifestFile(t, randomManifests(random, 15, false))
			wrong := random.IntN(3) > 0
			input := randomManifests(random, 30, wrong)
			again := randomManifests(random, 5, wrong) // some of them were in the first file
			args := [][]string{{"apply"}, {"create"}, {"create", "--skip-exists"}, {"replace"}, {"delete"}, {"delete", "-s"},
				{"apply", "--dry-run=server"}, {"apply", "--prune", "-l", "team == 'a'"}, {"diff"}}[random.IntN(9)]
			args = append(args, "-f", manifestFile(t, input), "-f", manifestFile(t, again))
			var want transcript
			for _, batch := range []int{1, 2 + random.IntN(9), 100} {
				kv := &interrupted{Memory: kvtest.NewMemory()}
				runOn(t, kv, 1, "create", "-f", begin)
				// Someone else's write makes no difference, unless a version was asked for, which pruning does.
				if batch > 1 && !strings.Contains(input+again, "resourceVersion") && args[1] != "--prune" {
					kv.conflicts = random.IntN(3)
				}
				got := runOn(t, kv, batch, args...)
				if batch == 1 {
					want = got
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("seed %d: margayctl %v, %d at a time: -one by one +batches\n%s\n%s\n---\n%s", seed, args, batch, diff, input, again)
				}
			}
		})
	}
}

// manifestFile is a file of manifests.
func manifestFile(t *testing.T, manifests string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// randomManifests are objects of which some need others, and, if that is wanted, some are wrong.
func randomManifests(random *rand.Rand, count int, wrong bool) string {
	var documents []string
	had := map[string]bool{}
	add := func(kind, meta, spec string) {
		name, _, _ := strings.Cut(kind+" "+meta, ",")
		if had[name] {
			return
		}
		had[name] = true
		documents = append(documents, fmt.Sprintf("{apiVersion: projectcalico.org/v3, kind: %s, metadata: {%s}, spec: {%s}}", kind, meta, spec))
	}
	some := func(values ...string) string { return values[random.IntN(len(values))] }
	for range count {
		name := some("a", "b", "c", "d", "e")
		meta := "name: " + name
		if random.IntN(2) == 0 {
			meta += ", labels: {team: " + some("a", "b") + "}"
		}
		if wrong && random.IntN(10) == 0 {
			meta += `, resourceVersion: "` + some("1", "3", "6", "9") + `"`
		}
		if wrong && random.IntN(20) == 0 {
			meta += ", namespace: elsewhere"
		}
		tier, filter, cidr := "default", "", fmt.Sprintf("10.%d.0.0/16", name[0])
		if wrong {
			tier, filter, cidr = some("default", "a", "b", "absent"), some("", "a", "b", "absent"), some(cidr, cidr, "10.0.0.0/8")
		}
		switch random.IntN(9) {
		case 0:
			add("Tier", meta, "order: "+some("1", "2"))
		case 1, 2:
			add("GlobalNetworkPolicy", meta, "tier: "+tier+", selector: "+some("all()", "x == 'y'")+", types: [Ingress]")
		case 3:
			add("NetworkPolicy", meta, "tier: "+tier+", order: "+some("1", "2"))
		case 4:
			add("IPPool", meta, "cidr: "+cidr+", disabled: "+some("true", "false"))
		case 5:
			add("BGPFilter", meta, "")
		case 6:
			add("BGPPeer", meta, "peerIP: 10.0.0.1, asNumber: 64512, node: "+some("a", "b")+", filters: ["+filter+"]")
		case 7:
			add("Node", meta, "")
		case 8:
			add("HostEndpoint", meta, "node: "+some("a", "b")+", interfaceName: "+some("eth0", "eth1"))
		}
	}
	if wrong && random.IntN(3) == 0 {
		add("ClusterInformation", "name: default", "")
		add("Profile", "name: projectcalico-default-allow", "")
		add("GlobalNetworkPolicy", "name: invalid", "selector: '!!'")
	}
	random.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	return strings.Join(documents, "\n---\n")
}
