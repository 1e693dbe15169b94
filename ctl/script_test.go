package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/fixture"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata; read the diff before committing it")

// Each script in testdata is a session at the command line, against a datastore in memory and an agent that answers
// from a file. The commands beside margayctl are in this file and in agent_test.go.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	recorded, examples, domains := absolute(t, "testdata/calico"), absolute(t, "../docs/examples"), absolute(t, "vm/testdata")
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RECORDED", recorded)
			env.Setenv("EXAMPLES", examples)
			env.Setenv("XML", domains)
			env.Values[worldKey{}] = newWorld()
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"margayctl": cmdMargayctl, "datastore": cmdDatastore, "agent": cmdAgent, "bytes": cmdBytes,
			"exitcode": cmdExitCode,
		},
	})
}

func absolute(t *testing.T, path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

type worldKey struct{}

// world holds the state of one script.
type world struct {
	kv     *interrupted
	store  *datastore.Store
	outage string
	pauses int
	later  time.Duration // that has passed for the commands
	code   int           // of the last margayctl
}

func newWorld() *world {
	kv := &interrupted{Memory: kvtest.NewMemory()}
	return &world{kv: kv, store: datastore.New(kv)}
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// interrupted is a KV in which someone else writes an object just before the command updates it.
type interrupted struct {
	*kvtest.Memory
	conflicts int
}

func (i *interrupted) Commit(ctx context.Context, conditions []datastore.Condition, writes []datastore.Write) (datastore.Outcome, error) {
	for _, c := range conditions {
		isUpdate := len(writes) > 0 && c.Key == writes[0].Key && c.Revision > 0
		if !isUpdate || i.conflicts == 0 {
			continue
		}
		i.conflicts--
		entries, _, err := i.Lookup(ctx, []string{c.Key})
		if err != nil {
			return datastore.Outcome{}, err
		}
		if _, err := i.Memory.Commit(ctx, nil, []datastore.Write{{Key: c.Key, Value: entries[0].Value}}); err != nil {
			return datastore.Outcome{}, err
		}
	}
	return i.Memory.Commit(ctx, conditions, writes)
}

// margayctl ARGS... [< FILE]
func cmdMargayctl(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	var stdin io.Reader = strings.NewReader("")
	if n := len(args); n >= 2 && args[n-2] == "<" {
		stdin = strings.NewReader(ts.ReadFile(args[n-1]))
		args = args[:n-2]
	}
	var stdout, stderr bytes.Buffer
	s := newSession(stdin, &stdout, &stderr, func(name string) string {
		if name == "MARGAY_AGENT" {
			return "unix://" + socketOf(ts)
		}
		return ts.Getenv(name)
	})
	s.open = func(context.Context, *session) (store, func(), error) {
		if w.outage != "" {
			return nil, nil, fmt.Errorf("%s", w.outage)
		}
		return w.store, func() {}, nil
	}
	s.interfaces = func() map[string][]netip.Addr {
		return map[string][]netip.Addr{"eth0": {netip.MustParseAddr("192.0.2.10")}}
	}
	s.links = func() (map[string]bool, error) {
		names := map[string]bool{"eth0": true}
		for _, name := range strings.Fields(ts.Getenv("LINKS")) {
			names[name] = true
		}
		return names, nil
	}
	s.pause = func(context.Context, time.Duration) error { w.pauses++; return nil }
	s.now = func() time.Time { return time.Unix(1_800_000_000, 0).Add(w.later) }
	s.felix = func() (string, error) { return ts.MkAbs("felix"), nil }
	code := s.run(context.Background(), args)
	plain := strings.NewReplacer(ts.Getenv("WORK"), "$WORK")
	fmt.Fprint(ts.Stdout(), plain.Replace(stdout.String()))
	fmt.Fprint(ts.Stderr(), plain.Replace(stderr.String()))
	ts.Logf("[stdout]\n%s[stderr]\n%s[exit code %d]", stdout.String(), stderr.String(), code)
	w.code = code
	if code != 0 && code != 1 && (code != exitTrouble || args[0] != "diff") {
		ts.Fatalf("exit code %d, only 0 and 1 are ours, and 2 of diff", code)
	}
	if neg != (code != 0) {
		ts.Fatalf("exit code %d", code)
	}
}

// datastore recorded: the keys that the real calicoctl wrote, at their original revisions.
// datastore new: another datastore, which is empty, is used from here on.
// datastore conflicts N: someone else writes just before each of the next N updates.
// datastore pauses N: the command has waited N times.
// datastore put KEY FILE: someone writes a value straight into etcd.
// datastore show KEY: the stored value, on standard output.
// datastore later DURATION: this time passes.
// datastore down TEXT: the datastore cannot be reached.
func cmdDatastore(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	switch args[0] {
	case "recorded":
		ts.Check(w.loadRecorded(ts.Getenv("RECORDED")))
	case "new":
		fresh := newWorld()
		w.kv, w.store = fresh.kv, fresh.store
	case "conflicts":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		w.kv.conflicts = n
	case "pauses":
		if got := strconv.Itoa(w.pauses); got != args[1] {
			ts.Fatalf("paused %s times", got)
		}
	case "put":
		_, err := w.kv.Commit(context.Background(), nil, []datastore.Write{{Key: args[1], Value: []byte(ts.ReadFile(args[2]))}})
		ts.Check(err)
	case "show":
		page, err := w.kv.Range(context.Background(), datastore.Span{From: args[1], To: args[1] + "\x00"}, 0, 1)
		ts.Check(err)
		out := ts.Stdout() // which forgets what the last command wrote
		for _, entry := range page.Entries {
			fmt.Fprintln(out, strings.TrimSuffix(string(entry.Value), "\n"))
		}
	case "later":
		later, err := time.ParseDuration(args[1])
		ts.Check(err)
		w.later += later
	case "down":
		w.outage = args[1]
	default:
		ts.Fatalf("unknown: datastore %s", args[0])
	}
}

// exitcode N: the exit code of the last margayctl was N.
func cmdExitCode(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(worldOf(ts).code); got != args[0] {
		ts.Fatalf("exit code %s", got)
	}
}

// bytes FILE HEX...: a file that is no text.
func cmdBytes(ts *testscript.TestScript, _ bool, args []string) {
	var data []byte
	for _, a := range args[1:] {
		n, err := strconv.ParseUint(a, 16, 8)
		ts.Check(err)
		data = append(data, byte(n))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// loadRecorded writes the recorded keys in their original order, so that their resource versions are those of the recorded outputs.
// Writes to an unused key stand for the other writes of that etcd.
func (w *world) loadRecorded(directory string) error {
	revisions, last, err := recordedRevisions(directory)
	if err != nil {
		return err
	}
	byRevision := map[int64]datastore.Write{}
	var first []datastore.Write // nothing is known of their revisions
	for _, e := range fixture.CalicoEtcd() {
		var value bytes.Buffer
		if err := json.Compact(&value, e.Value); err != nil {
			return err
		}
		write := datastore.Write{Key: e.Key, Value: value.Bytes()}
		if at := revisions[filepath.Base(e.Key)+" of "+filepath.Base(filepath.Dir(e.Key))]; at != 0 {
			byRevision[at] = write
		} else {
			first = append(first, write)
		}
	}
	for at := int64(2); at <= last; at++ {
		writes := []datastore.Write{{Key: "/other", Value: []byte("x")}}
		if write, ok := byRevision[at]; ok {
			writes = []datastore.Write{write}
		} else if at == 2 {
			writes = first
		}
		if _, err := w.kv.Commit(context.Background(), nil, writes); err != nil {
			return err
		}
	}
	return nil
}

// recordedRevisions reads the resource version of each object from the recorded YAML: by "NAME of LAST-SEGMENT", and that
// of the lists.
func recordedRevisions(directory string) (map[string]int64, int64, error) {
	files, err := filepath.Glob(filepath.Join(directory, "get", "*-yaml.txt"))
	if err != nil {
		return nil, 0, err
	}
	item := regexp.MustCompile(`(?m)^    name: (\S+)\n(?:    namespace: (\S+)\n)?    resourceVersion: "(\d+)"`)
	list := regexp.MustCompile(`(?m)^  resourceVersion: "(\d+)"`)
	kind := regexp.MustCompile(`(?m)^kind: (\w+)List`)
	revisions, last := map[string]int64{}, int64(0)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, 0, err
		}
		k, _ := api.KindOf(string(kind.FindSubmatch(text)[1]))
		for _, m := range item.FindAllStringSubmatch(string(text), -1) {
			segment := k.Plural
			if k.Namespaced {
				segment = m[2]
			}
			revisions[m[1]+" of "+segment], _ = strconv.ParseInt(m[3], 10, 64)
		}
		last, _ = strconv.ParseInt(list.FindStringSubmatch(string(text))[1], 10, 64)
	}
	return revisions, last, nil
}
