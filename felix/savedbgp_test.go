package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

// fill sets every field of a value to something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.MustParseAddr("2001:db8::7")
		return
	case *netip.Prefix:
		*x = netip.MustParsePrefix("10.65.0.0/26")
		return
	case *time.Time:
		*x = time.Unix(1_800_000_000, 0).UTC()
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%v.%s is not exported, so it would be lost", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	default:
		t.Fatalf("%v cannot be saved", v.Type())
	}
}

// A value that is lost on the way could be one that limits what is announced.
func TestEveryFieldOfTheSavedStateIsRead(t *testing.T) {
	t.Parallel()
	var b savedBGP
	fill(t, reflect.ValueOf(&b).Elem())
	contents, err := b.encode()
	must(t, err)
	got, err := decodeSaved(contents, b.Node, b.Boot)
	must(t, err)
	if diff := cmp.Diff(b, got, cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("saved and read (-want +got):\n%s", diff)
	}
}

func TestASavedStateThatIsNotOfThisStartIsRefused(t *testing.T) {
	t.Parallel()
	good, err := savedBGP{Node: "n1", Boot: "b1", Former: dataplane.Former{BGP: calc.BGP{AS: 64512}}}.encode()
	must(t, err)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name       string
		contents   []byte
		node, boot string
		want       string
	}{
		{"as it was written", good, "n1", "b1", ""},
		{"after a reboot", good, "n1", "b2", "the machine was booted since it was written"},
		{"of another node", good, "n2", "b1", "it is from node n1"},
		{"one bit is wrong", flipped, "n1", "b1", "damaged"},
		{"cut off", good[:len(good)-3], "n1", "b1", "damaged"},
		{"empty", nil, "n1", "b1", "not a file of this version"},
		{"something else", []byte("hello\nworld\n"), "n1", "b1", "not a file of this version"},
		{"another layout", bytes.Replace(good, []byte(savedLayout()), []byte("0123456789abcdef"), 1), "n1", "b1", "another version of felix"},
	} {
		file := filepath.Join(t.TempDir(), "bgp.state")
		must(t, os.WriteFile(file, c.contents, 0o600))
		r := newResumption(quiet(), file, c.node, c.boot)
		if c.want == "" {
			if r.former == nil || r.problem != "" {
				t.Errorf("%s: %+v, %s", c.name, r.former, r.problem)
			}
			continue
		}
		if r.former != nil || !strings.Contains(r.problem, c.want) || !strings.Contains(r.problem, file) {
			t.Errorf("%s: %+v, %q does not say %q", c.name, r.former, r.problem, c.want)
		}
		a := &agent{resumption: r}
		a.resume() // without a saved state it asks neither the kernel nor the speaker
		if r.bgp != nil || len(a.resumptionProblems()) != 1 {
			t.Errorf("%s: announces %+v, problems %v", c.name, r.bgp, a.resumptionProblems())
		}
	}
	if r := newResumption(quiet(), filepath.Join(t.TempDir(), "none"), "n1", "b1"); r.former != nil || r.problem != "" {
		t.Errorf("without a file: %+v, %s", r.former, r.problem)
	}
}

// The file has the last state of the speaker when felix ends, also if felix ends before the file is due.
func TestTheLastStateIsSavedAtTheEnd(t *testing.T) {
	t.Parallel()
	for range 20 { // run may see the end before the news
		file := filepath.Join(t.TempDir(), "bgp.state")
		r := newResumption(quiet(), file, "n1", "b1")
		r.save(dataplane.Former{BGP: calc.BGP{AS: 7}})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.run(ctx)
		if got, err := readSaved(file, "n1", "b1"); err != nil || got == nil || got.Former.BGP.AS != 7 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

// A crash while the file is written leaves the former one.
func TestTheSavedStateIsReplacedInOneStep(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bgp.state")
	for as := range uint32(3) {
		must(t, writeSaved(file, savedBGP{Node: "n1", Boot: "b1", Former: dataplane.Former{BGP: calc.BGP{AS: as}}}))
		must(t, os.WriteFile(file+".new", []byte("half"), 0o600)) // of a process that has crashed
		got, err := readSaved(file, "n1", "b1")
		if err != nil || got.Former.BGP.AS != as {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := writeSaved(filepath.Join(t.TempDir(), "none", "file"), savedBGP{}); err == nil {
		t.Error("a file was written into a directory that does not exist")
	}
}

// The next start knows under which protocol numbers routes of this felix may be in the kernel.
func TestTheSavedStateHasTheFormerRouteProtocols(t *testing.T) {
	s := &settings{agentSocket: filepath.Join(t.TempDir(), "felix.sock"), nodeName: "n1"}
	if got := formerProtocols(s); len(got) != 0 {
		t.Errorf("without a saved state: %v", got)
	}
	boot, err := bootID()
	must(t, err)
	for _, c := range []struct {
		node, boot string
		want       []int
	}{{"n1", boot, []int{90, 91}}, {"n2", boot, nil}, {"n1", "another", nil}} {
		must(t, writeSaved(savedFile(s), savedBGP{Node: c.node, Boot: c.boot, Former: dataplane.Former{RouteProtocol: 91, FormerProtocols: []int{90}}}))
		if got := formerProtocols(s); !slices.Equal(got, c.want) {
			t.Errorf("saved by %s in boot %s: %v, want %v", c.node, c.boot, got, c.want)
		}
	}
}

// A felix of another version may have saved other fields. Its routes are in the kernel all the same.
func TestTheFormerRouteProtocolsOutliveAnotherLayout(t *testing.T) {
	t.Parallel()
	type former struct {
		RouteProtocol   int
		FormerProtocols []int
		BGP             string // another type
		More            map[string]int
	}
	type saved struct {
		Node, Boot, More string
		Former           former
	}
	var body bytes.Buffer
	must(t, gob.NewEncoder(&body).Encode(saved{"n1", "b1", "more", former{91, []int{90}, "64512", map[string]int{"more": 1}}}))
	contents := fmt.Appendf(nil, "%s %s %x\n%s", savedMagic, "0123456789abcdef", sha256.Sum256(body.Bytes()), body.Bytes())
	for _, c := range []struct {
		name, node, boot string
		contents         []byte
		want             []int
	}{
		{"another layout", "n1", "b1", contents, []int{90, 91}},
		{"another node", "n2", "b1", contents, nil},
		{"another boot", "n1", "b2", contents, nil},
		{"damaged", "n1", "b1", contents[:len(contents)-1], nil},
		{"no state", "n1", "b1", nil, nil},
	} {
		if got := savedProtocols(c.contents, c.node, c.boot); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if b, err := decodeSaved(c.contents, c.node, c.boot); err == nil {
			t.Errorf("%s: the whole state is used: %+v", c.name, b)
		}
	}
}
