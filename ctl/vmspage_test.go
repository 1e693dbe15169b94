package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// words splits a line as a shell does that knows only single quotes.
func words(line string) (list []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// Each command of margayctl on the page about VMs works when it is pasted, in its order.
func TestThePageAboutVMsCanBePasted(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/vms.md")
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	memory := kvtest.NewMemory()
	run := func(stdin string, args ...string) int {
		s := newSession(strings.NewReader(stdin), &bytes.Buffer{}, &stderr, func(name string) string {
			return map[string]string{"FELIX_NODENAME": "host1"}[name]
		})
		s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(memory), func() {}, nil }
		s.links = func() (map[string]bool, error) { return map[string]bool{"tap0": true, "cali-web": true}, nil }
		s.dumpXML = func(context.Context, string, string) ([]byte, error) {
			return os.ReadFile("../docs/examples/vm-routed.xml")
		}
		return s.run(t.Context(), args)
	}
	before := `{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: host1}}
---
{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}}`
	if run(before, "apply", "-f", "-") != 0 {
		t.Fatal(stderr.String())
	}
	commands := regexp.MustCompile(`(?m)^ {4}margayctl (.*)$`).FindAllStringSubmatch(string(page), -1)
	for _, command := range commands {
		args := words(strings.ReplaceAll(command[1], "docs/examples/", "../docs/examples/"))
		if slices.Contains(args, "install") {
			args = append(args, "--directory", t.TempDir())
		}
		stderr.Reset()
		if code := run("", args...); code != 0 {
			t.Errorf("margayctl %s: exit code %d\n%s", command[1], code, stderr.String())
		}
	}
	if len(commands) < 10 {
		t.Errorf("the page has only %d commands", len(commands))
	}
}

// The page shows the files in docs/examples as they are.
func TestThePageAboutVMsShowsTheExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/vms.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vm-routed.xml", "vm-bridged.xml", "cloud-init-network-config", "cni-margay.conflist"} {
		text, err := os.ReadFile("../docs/examples/" + name)
		if err != nil {
			t.Fatal(err)
		}
		shown := "    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ") + "\n"
		if !strings.Contains(string(page), "\n"+shown) {
			t.Errorf("docs/vms.md does not show docs/examples/%s as it is", name)
		}
	}
}
