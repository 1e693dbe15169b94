package datastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// contents returns all values under the root, by key.
func contents(t *testing.T, store KV) map[string]string {
	t.Helper()
	all := map[string]string{}
	_, err := kv.Each(testContext(t), store, kv.Prefix(rootKey), 0, func(page Page) error {
		for _, entry := range page.Entries {
			all[entry.Key] = string(entry.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func exportOf(t *testing.T, store KV) []byte {
	t.Helper()
	archive, err := New(store).Export(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := archive.Write(&file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func archiveOf(t *testing.T, file []byte) *Archive {
	t.Helper()
	archive, err := ReadArchive(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	return archive
}

func importInto(t *testing.T, store KV, file []byte) Imported {
	t.Helper()
	done, err := New(store).Import(testContext(t), archiveOf(t, file), false)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// lockedInformation is the ClusterInformation of a locked datastore.
const lockedInformation = `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u","creationTimestamp":"2026-08-20T10:15:30Z"},"spec":{"clusterGUID":"g","datastoreReady":false}}`

// recorded is the fixture datastore, locked.
func recorded(t *testing.T) *kvtest.Memory {
	store := kvtest.NewMemory()
	for _, entry := range written(t) {
		raw(t, store, entry.Key, strings.Replace(string(entry.Value), `"datastoreReady":true`, `"datastoreReady":false`, 1))
	}
	return store
}

func TestAnImportedDatastoreIsTheExportedOne(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	file := exportOf(t, source)
	onBoth(t, func(t *testing.T, target KV) {
		done := importInto(t, target, file)
		if want := len(contents(t, source)); done.Written != want {
			t.Errorf("%d keys were written, want %d", done.Written, want)
		}
		if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
			t.Errorf("-source +target\n%s", diff)
		}
		if again := exportOf(t, target); !bytes.Equal(file, again) {
			t.Errorf("exported again:\n%s", cmp.Diff(string(file), string(again)))
		}
	})
}

// The input of calicoctl's import: documents of its kinds with fields that it knows, and typed keys of IPAM.
func TestTheFileHasThePartsThatCalicoctlReads(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	raw(t, source, policies+"future", `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"future","uid":"u"},"spec":{"selector":"all()","shiny":{"new":1},"ingress":[{"action":"Allow","glow":true}],"types":["Ingress"]}}`)
	raw(t, source, policies+"bars", `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"bars","uid":"u","annotations":{"note":"==="}},"spec":{"selector":"all()","types":["Ingress"]}}`)
	raw(t, source, "/calico/ipam/v2/handle/h1", `{"block":{"10.0.0.0/26":1},"deleted":false}`)
	raw(t, source, "/calico/ipam/v2/handle/broken", `{"block":`)
	file := exportOf(t, source)
	parts := bytes.Split(file, []byte("===\n")) // as calicoctl cuts it
	if len(parts) != 3 {
		t.Fatalf("%d parts\n%s", len(parts), file)
	}
	objects, err := api.Decode(parts[0]) // strict, as calicoctl
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range objects {
		kinds = append(kinds, o.Type().Kind)
		if o.Meta().ResourceVersion != "" {
			t.Errorf("%v has a resource version", api.KeyOf(o))
		}
	}
	want := []string{"IPPool", "BGPFilter", "BGPPeer", "Tier", "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "GlobalNetworkSet", "HostEndpoint",
		"NetworkPolicy", "NetworkSet", "Node", "BGPConfiguration", "FelixConfiguration", "IPReservation"}
	if diff := cmp.Diff(want, slices.Compact(kinds)); diff != "" {
		t.Errorf("kinds: -want +got\n%s", diff)
	}
	var information struct{ Spec struct{ ClusterGUID string } }
	if err := json.Unmarshal(parts[1], &information); err != nil || information.Spec.ClusterGUID == "" {
		t.Errorf("ClusterInformation: %v\n%s", err, parts[1])
	}
	var keys struct {
		Handles []struct {
			Key   string
			Value *struct {
				Block   map[string]int
				Deleted bool
			}
			TTL time.Duration
		} `json:"handles"`
	}
	if err := json.Unmarshal(parts[2], &keys); err != nil || len(keys.Handles) != 1 || keys.Handles[0].Value.Block["10.0.0.0/26"] != 1 {
		t.Errorf("IPAM: %v\n%+v", err, keys)
	}
	target := kvtest.NewMemory()
	importInto(t, target, file)
	if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
		t.Errorf("-source +target\n%s", diff)
	}
}

// A reader of the file that does not know a field of a rule must not allow more packets: the documents have seals instead of the
// field, and others has the exact value.
func TestTheFileIsClosedToReadersThatDoNotKnowAField(t *testing.T) {
	t.Parallel()
	source := kvtest.NewMemory()
	raw(t, source, informationKey, lockedInformation)
	values := map[string]string{
		"sealed":  `{"action":"Allow","destination":{"selector":"has(margay/domains) && !has(margay/domains) && (has(a))","domains":["example.com"]}}`,
		"open":    `{"action":"Allow","destination":{"domains":["example.com"]}}`,
		"newer":   `{"action":"Pass","glow":true,"source":{"shiny":{"new":1}}}`,
		"denying": `{"action":"Deny","glow":true,"destination":{"domains":["example.com"]}}`,
		"plain":   `{"action":"Allow","destination":{"selector":"has(a)"}}`,
	}
	for name, rule := range values {
		raw(t, source, policies+name, `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"`+name+`","uid":"u"},"spec":{"egress":[`+rule+`]}}`)
	}
	file := exportOf(t, source)
	documents, _, _ := bytes.Cut(file, []byte("===\n"))
	objects, err := api.Decode(documents)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range objects {
		rule, err := json.Marshal(o.(*api.GlobalNetworkPolicy).Spec.Egress[0])
		if err != nil {
			t.Fatal(err)
		}
		got[o.Meta().Name] = strings.ReplaceAll(string(rule), `\u0026`, "&")
	}
	want := map[string]string{
		"sealed":  `{"action":"Allow","destination":{"selector":"has(margay/domains) && !has(margay/domains) && (has(a))"}}`,
		"open":    `{"action":"Allow","destination":{"selector":"has(margay/domains) && !has(margay/domains)"}}`,
		"newer":   `{"action":"Pass","source":{"selector":"has(margay/shiny) && !has(margay/shiny)"},"destination":{"selector":"has(margay/glow) && !has(margay/glow)"}}`,
		"denying": `{"action":"Deny"}`,
		"plain":   values["plain"],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("documents: -want +got\n%s", diff)
	}
	target := kvtest.NewMemory()
	importInto(t, target, file)
	if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
		t.Errorf("-source +target\n%s", diff)
	}
}

// oddValues returns values that a datastore may hold and that Margay does not write.
var oddValues = map[string]string{
	policies + "default.old": `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.old","uid":"u","creationTimestamp":null},"spec":{"selector":"all()","ingress":[{"action":"Allow","source":{},"destination":{}}]}}`,
	policies + "default.two": `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.two","uid":"u1"},"spec":{"selector":"has(old)"}}`,
	policies + "two":         `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"two","uid":"u2"},"spec":{"selector":"has(new)"}}`,
	policies + "broken":      `{"kind":`,
	policies + "no-utf8":     "\xff\xfe",
	policies + "empty":       "",
	policies + "odd-field":   `{"kind":"GlobalNetworkPolicy","metadata":{"name":"odd-field","labels":{"a":"no"}},"spec":{"order":1e3,"selector":"a in {'x<y'}","more":[1, 2]}}`,
	policies + "knp":         `{"kind":"GlobalNetworkPolicy","metadata":{"name":"other"},"spec":{"selector":5}}`,
	"/calico/resources/v3/projectcalico.org/livemigrations/ns/m":                     `{"kind":"LiveMigration","spec":{}}`,
	"/calico/resources/v3/projectcalico.org/networkpolicies/ns/knp.default.a":        `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"knp.default.a","namespace":"ns","uid":"u"},"spec":{}}`,
	"/calico/resources/v3/projectcalico.org/profiles/p":                              `{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"p","uid":"u"},"spec":{"labelsToApply":{"a":"b"}}}`,
	"/calico/resources/v3/projectcalico.org/globalnetworksets/multi%2fline":          "{\"kind\":\"GlobalNetworkSet\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"multi/line\",\"uid\":\"u\",\"annotations\":{\"a\":\"x\\n===\\n---\\ny: &a *a\"}},\"spec\":{\"nets\":[\"10.0.0.0/8\"]}}",
	"/calico/resources/v3/projectcalico.org/globalnetworksets/text":                  "{\"kind\":\"GlobalNetworkSet\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{\"name\":\"text\",\"uid\":\"u\",\"annotations\":{\"a\":\"x\\n===\\n---\\ny\",\"b\":\"0x10\",\"c\":\"~\",\"d\":\" \\t\\u0001\"}},\"spec\":{\"nets\":[]}}",
	"/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30":                              `{"cidr":"10.0.0.0/30","affinity":"host:a","allocations":[null,null,0,null],"unallocated":[0,1,3],"attributes":[{"handle_id":"h"}],"sequenceNumber":1789012345678901234,"sequenceNumberForAllocation":{"2":1789012345678901233},"deleted":false,"new":1}`,
	"/calico/ipam/v2/assignment/ipv4/block/10.0.0.4-30":                              `{"cidr": "10.0.0.4/30", "allocations": [null,null,null,null]}`,
	"/calico/ipam/v2/assignment/ipv4/block/10.0.0.8-30":                              `{"cidr":7}`,
	"/calico/ipam/v2/host/a/ipv4/block/10.0.0.0-30":                                  `{"state":"confirmed","deleted":"false"}`,
	"/calico/ipam/v2/host/a/ipv4/block/10.0.0.4-30":                                  "",
	"/calico/ipam/v2/host/a":                                                         `{}`,
	"/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.1.0.0-26":                   `{"state":"confirmed","deleted":false}`,
	"/calico/ipam/v2/handle/net.1":                                                   `{"block":{"10.0.0.0/30":1},"deleted":false}`,
	"/calico/ipam/v2/config":                                                         `{"strict_affinity":true,"note":"<>"}`,
	"/calico/v1/config/old":                                                          "text",
	"/calico/resources/v3/projectcalico.org/shinies/a":                               `{"kind":"Shiny"}`,
	"/calico/resources/v3/projectcalico.org/hostendpoints/h":                         `{"kind":"HostEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"h","uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z","ownerReferences":[{"kind":"X","uid":"y"}],"managedFields":[{"manager":"m"}]},"spec":{"node":"a","interfaceName":"*"}}`,
	"/calico/resources/v3/projectcalico.org/stagednetworkpolicies/default/default.s": `{"kind":"StagedNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.s","namespace":"default","uid":"u"},"spec":{"tier":"default","stagedAction":"Set"}}`,
}

func TestAnyDatastoreSurvivesExportAndImport(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	base := contents(t, recorded(t))
	for round := range 60 {
		source := kvtest.NewMemory()
		raw(t, source, informationKey, lockedInformation)
		for _, pool := range []map[string]string{base, oddValues} {
			for _, key := range slices.Sorted(maps.Keys(pool)) {
				if key != informationKey && (round == 0 || random.IntN(2) == 0) {
					raw(t, source, key, flipped(random, round, pool[key]))
				}
			}
		}
		file := exportOf(t, source)
		target := kvtest.NewMemory()
		importInto(t, target, file)
		wanted, got := contents(t, source), contents(t, target)
		for key, value := range got {
			if was := wanted[key]; was != value && archiveOf(t, file).anonymous[key] && equalButIdentity(key, []byte(value), []byte(was)) {
				got[key] = was
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Fatalf("round %d: -source +target\n%s", round, diff)
		}
	}
}

// flipped changes a byte of some values at random.
func flipped(random *rand.Rand, round int, value string) string {
	if round < 20 || value == "" || random.IntN(10) > 0 {
		return value
	}
	text := []byte(value)
	text[random.IntN(len(text))] = byte(random.IntN(256))
	return string(text)
}

func TestReportsOfAgentsAreNotExported(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	file := exportOf(t, source)
	raw(t, source, "/calico/felix/v2/no-region/host/a/status", `{"time":"2026-01-01T00:00:00Z"}`)
	if again := exportOf(t, source); !bytes.Equal(file, again) {
		t.Errorf("%s", cmp.Diff(string(file), string(again)))
	}
}

func TestOnlyALockedDatastoreIsExported(t *testing.T) {
	t.Parallel()
	source := kvtest.NewMemory()
	for name, prepare := range map[string]func(){
		"empty":    func() {},
		"unlocked": func() { raw(t, source, informationKey, strings.Replace(lockedInformation, "false", "true", 1)) },
		"broken":   func() { raw(t, source, informationKey, "{") },
	} {
		prepare()
		if _, err := New(source).Export(testContext(t)); !errors.Is(err, ErrUnlocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// compacting is a store whose history is compacted while it is read for the first time.
type compacting struct {
	*kvtest.Memory
	times int
}

func (c *compacting) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	if revision != 0 && c.times > 0 {
		c.times--
		return Page{}, ErrCompacted
	}
	return c.Memory.Range(ctx, span, revision, limit)
}

func TestAnExportIsReadAtOneRevision(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	for i := range 2 * kv.PageSize {
		raw(t, source, fmt.Sprintf("/calico/v1/key-%05d", i), "x")
	}
	archive, err := New(&compacting{source, 2}).Export(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(contents(t, source)); archive.Len() != want {
		t.Errorf("%d keys, want %d", archive.Len(), want)
	}
}

// failing is a KV that accepts only a number of commits.
type failing struct {
	*kvtest.Memory
	commits int
}

func (f *failing) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	if f.commits--; f.commits < 0 {
		return Outcome{}, errors.New("the network is gone")
	}
	return f.Memory.Commit(ctx, conditions, writes)
}

func TestAnInterruptedImportIsCompletedByTheNextOne(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	for i := range 200 {
		raw(t, source, fmt.Sprintf("/calico/resources/v3/projectcalico.org/globalnetworksets/s%03d", i),
			fmt.Sprintf(`{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"s%03d"},"spec":{}}`, i))
	}
	file := exportOf(t, source)
	for commits := range 4 {
		target := kvtest.NewMemory()
		_, err := New(&failing{target, commits}).Import(testContext(t), archiveOf(t, file), false)
		if err == nil || !strings.Contains(err.Error(), "import the same file again") {
			t.Fatalf("%d commits: %v", commits, err)
		}
		left := contents(t, target)
		if commits > 0 && !isLocked([]byte(left[informationKey])) {
			t.Errorf("%d commits: the datastore is not locked", commits)
		}
		done := importInto(t, target, file)
		if done.Already != len(left) || done.Already+done.Written != len(contents(t, source)) {
			t.Errorf("%d commits: %+v, %d keys were there", commits, done, len(left))
		}
		if again := importInto(t, target, file); again.Written != 0 {
			t.Errorf("%d commits: a further import writes %d keys", commits, again.Written)
		}
	}
}

func TestAnImportOverwritesNothing(t *testing.T) {
	t.Parallel()
	file := exportOf(t, recorded(t))
	for name, c := range map[string]struct {
		key, value string
		merge      bool
		want       string // in the error; empty: none
	}{
		"another object":           {policies + "mine", `{"spec":{}}`, false, "give --merge"},
		"another object, merged":   {policies + "mine", `{"spec":{}}`, true, ""},
		"the same object":          {policies + "quarantine", `{"spec":{}}`, false, "other values in the datastore"},
		"the same object, merged":  {policies + "quarantine", `{"spec":{}}`, true, "have other values in the datastore"},
		"a tier that was changed":  {resourceRoot + "tiers/default", `{"metadata":{"name":"default"},"spec":{"order":5}}`, false, "other values"},
		"what an agent reports":    {"/calico/felix/v1/host/a/endpoint/e", `{"status":"up"}`, false, ""},
		"a key outside of Calico":  {"/other/key", "x", false, ""},
		"its own name for cluster": {informationKey, strings.Replace(lockedInformation, "false", "true", 1), false, ""},
	} {
		target := kvtest.NewMemory()
		raw(t, target, c.key, c.value)
		before := contents(t, target)
		_, err := New(target).Import(testContext(t), archiveOf(t, file), c.merge)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "":
			if c.key != informationKey && c.key[:8] == "/calico/" && contents(t, target)[c.key] != c.value {
				t.Errorf("%s: it was overwritten", name)
			}
		case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.key):
			t.Errorf("%s: %v", name, err)
		default:
			if diff := cmp.Diff(before, contents(t, target)); diff != "" {
				t.Errorf("%s: something was written\n%s", name, diff)
			}
		}
	}
}

func TestANewDatastoreAcceptsAnImport(t *testing.T) {
	t.Parallel()
	source := recorded(t)
	onBoth(t, func(t *testing.T, target KV) {
		if err := New(target).EnsureInitialized(testContext(t)); err != nil {
			t.Fatal(err)
		}
		importInto(t, target, exportOf(t, source))
		if diff := cmp.Diff(contents(t, source), contents(t, target)); diff != "" {
			t.Errorf("-source +target\n%s", diff)
		}
	})
}

func TestAMergedDatastoreKeepsItsIdentityAndIsLocked(t *testing.T) {
	t.Parallel()
	target := kvtest.NewMemory()
	if err := New(target).EnsureInitialized(testContext(t)); err != nil {
		t.Fatal(err)
	}
	before := stored(t, target, informationKey)
	if _, err := New(target).Import(testContext(t), archiveOf(t, exportOf(t, recorded(t))), true); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(before, `"datastoreReady":true`, `"datastoreReady":false`, 1)
	if got := stored(t, target, informationKey); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// calicoctlFile is a file of calicoctl: lists, without identities, and nothing beside its three parts.
const calicoctlFile = `apiVersion: projectcalico.org/v3
items: []
kind: IPPoolList
metadata:
  resourceVersion: "7"
---
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkPolicy
  metadata:
    creationTimestamp: null
    name: web
  spec:
    selector: role == 'web'
    tier: default
    types:
    - Ingress
kind: GlobalNetworkPolicyList
metadata:
  resourceVersion: "7"
---
===
{
  "kind": "ClusterInformation",
  "apiVersion": "projectcalico.org/v3",
  "metadata": {
    "name": "default",
    "uid": "3f1f32a1-2d4c-4b1c-9a3e-111111111111",
    "resourceVersion": "12",
    "creationTimestamp": "2026-08-20T10:15:30Z"
  },
  "spec": {
    "clusterGUID": "0123456789abcdef0123456789abcdef",
    "datastoreReady": false
  }
}
===
{
  "handles": [
    {
      "Key": "/calico/ipam/v2/handle/h1",
      "Value": {
        "deleted": false,
        "block": {
          "10.0.0.0/26": 1
        }
      },
      "TTL": 0
    }
  ]
}
`

func TestAFileOfCalicoctlIsImported(t *testing.T) {
	t.Parallel()
	target := kvtest.NewMemory()
	importInto(t, target, []byte(calicoctlFile))
	got := contents(t, target)
	for key, value := range got {
		got[key] = variable.ReplaceAllString(value, `"$1":""`)
	}
	want := map[string]string{
		informationKey:              `{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"","creationTimestamp":""},"spec":{"clusterGUID":"","datastoreReady":false}}`,
		"/calico/ipam/v2/handle/h1": `{"deleted":false,"block":{"10.0.0.0/26":1}}`,
		policies + "web":            `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web","uid":"","creationTimestamp":"","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"web\"}"}},"spec":{"tier":"default","selector":"role == 'web'","types":["Ingress"]}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if again := importInto(t, target, []byte(calicoctlFile)); again.Written != 0 {
		t.Errorf("a second import writes %d keys", again.Written)
	}
}

func TestFilesThatCannotBeImportedSayWhy(t *testing.T) {
	t.Parallel()
	file := string(exportOf(t, recorded(t)))
	for name, c := range map[string]struct{ file, want string }{
		"empty":                  {"", "want three parts"},
		"binary":                 {"\x00\xff\x01", "want three parts"},
		"cut short":              {file[:len(file)-10], "the part with the keys of IPAM: unexpected end"},
		"cut in the middle":      {file[:len(file)/3], "want three parts"},
		"unknown field":          {strings.Replace(file, "  nodeSelector:", "  nodeSelektor:", 1), "nodeSelektor"},
		"unknown kind":           {strings.Replace(file, "kind: IPPool\n", "kind: IPPoool\n", 1), "did you mean IPPool?"},
		"an object in disguise":  {strings.Replace(file, "kind: Tier\n", "kind: ClusterInformation\n", 1), "ClusterInformation"},
		"no ClusterInformation":  {strings.Replace(file, `"kind": "ClusterInformation"`, `"kind": "Tier"`, 1), "want ClusterInformation(default)"},
		"no object":              {"===\n7\n===\n{}\n", "the part with ClusterInformation"},
		"a foreign key":          {strings.Replace(file, `"key": "/calico/`, `"key": "/other/`, 1), "does not begin with /calico/"},
		"a slash in a name":      {strings.Replace(file, "name: vms-v4", "name: vms/v4", 1), "cannot be stored"},
		"a document was deleted": {withoutDocument(t, file, "name: node.node-a"), "the file was changed after the export"},
		"a document was changed": {strings.Replace(file, "defaultEndpointToHostAction: Drop", "defaultEndpointToHostAction: Accept", 1), "the file was changed after the export"},
		"a list in IPAM's place": {strings.Replace(file, `"others": [`, `"others": [7, `, 1), "the part with the keys of IPAM"},
		"syntax error with line": {strings.Replace(file, `"others": [`, `"others": [,`, 1), "line "},
	} {
		_, err := ReadArchive([]byte(c.file))
		if c.file == file {
			t.Errorf("%s: the file does not have what is to be changed", name)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func withoutDocument(t *testing.T, file, with string) string {
	t.Helper()
	documents := strings.Split(file, "---\n")
	return strings.Join(slices.DeleteFunc(documents, func(d string) bool { return strings.Contains(d, with) }), "---\n")
}

func FuzzReadArchive(f *testing.F) {
	f.Add([]byte(calicoctlFile))
	f.Add([]byte("===\n{}\n===\n{}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		archive, err := ReadArchive(file)
		if err != nil {
			return
		}
		target := kvtest.NewMemory()
		if _, err := New(target).Import(t.Context(), archive, false); err != nil {
			t.Fatalf("what was read cannot be imported: %v", err)
		}
	})
}
