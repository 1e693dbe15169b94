package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/internal/skip"
)

// runProxmoxHook runs the hook script for Proxmox VE as Proxmox does, with a qm that prints a configuration, and a margayctl that notes
// its arguments and fails if refuse is set. It returns the calls of margayctl, the script's errors and its exit code.
func runProxmoxHook(t *testing.T, config string, refuse bool, arguments ...string) (calls, stderr string, code int) {
	t.Helper()
	perl, err := exec.LookPath("perl")
	if err != nil {
		skip.For(t, "perl is not installed; Proxmox VE always has it")
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("config", config)
	write("qm", "#!/bin/sh\ntest \"$*\" = \"config 100 --current\" && exec cat "+dir+"/config\nexit 2\n")
	exit := "0"
	if refuse {
		exit = "1"
	}
	write("margayctl", "#!/bin/sh\nfor a; do printf '%s|' \"$a\"; done >>"+dir+"/calls\necho >>"+dir+"/calls\nexit "+exit+"\n")
	cmd := exec.Command(perl, append([]string{"../docs/examples/proxmox-hook.pl"}, arguments...)...)
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
	var failure strings.Builder
	cmd.Stderr = &failure
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	all, _ := os.ReadFile(filepath.Join(dir, "calls"))
	return string(all), failure.String(), cmd.ProcessState.ExitCode()
}

func TestTheHookScriptOfProxmox(t *testing.T) {
	t.Parallel()
	// As qm config prints it: the notes are one line, with %0A between lines.
	const config = `agent: 1
boot: order=scsi0;net0
description: The shop's front end, 100%25 ours%0Amargay%3A --namespace shop --label role=web --profile=vm%0Amargay net0%3A --ipam auto%0D%0Amargay net2%3A --address 10.0.0.7
memory: 2048
name: web
net0: virtio=BC:24:11:2E:C4:01,bridge=vmbr0,firewall=1,tag=20
net2: e1000=BC:24:11:2E:C4:02,bridge=vmbr1
tags: web;prod
`
	const net0 = "workload|add|vm100|--orchestrator|proxmox|--interface|tap100i0|--endpoint|net0|--mac|BC:24:11:2E:C4:01|" +
		"--namespace=shop|--label=role=web|--profile=vm|--ipam=auto|\n"
	const net2 = "workload|add|vm100|--orchestrator|proxmox|--interface|tap100i2|--endpoint|net2|--mac|BC:24:11:2E:C4:02|" +
		"--namespace=shop|--label=role=web|--profile=vm|--address=10.0.0.7|\n"
	const remove = "workload|remove|vm100|--skip-not-exists|--namespace|shop|\n"
	notes := func(line string) string {
		return "description: " + line + "\nnet0: virtio=BC:24:11:2E:C4:01,bridge=vmbr0\n"
	}
	for _, test := range []struct {
		behaviour, config, phase string
		refuse                   bool
		calls, stderr            string
		fails                    bool
	}{
		{behaviour: "makes the endpoint of each interface before the start", config: config, phase: "pre-start", calls: net0 + net2},
		{behaviour: "does nothing while the VM runs", config: config, phase: "post-start"},
		{behaviour: "does nothing before the stop", config: config, phase: "pre-stop"},
		{behaviour: "removes the endpoints after the stop", config: config, phase: "post-stop", calls: remove},
		{behaviour: "uses the default namespace", config: notes("margay%3A --ipam auto"), phase: "post-stop",
			calls: "workload|remove|vm100|--skip-not-exists|--namespace|default|\n"},
		{behaviour: "leaves a VM without a line alone", config: notes("about margay: nothing"), phase: "pre-start"},
		{behaviour: "leaves a VM without notes alone", config: "net0: virtio=BC:24:11:2E:C4:01,bridge=vmbr0\n", phase: "pre-start"},
		{behaviour: "keeps a VM from starting without policy", config: config, phase: "pre-start", refuse: true, calls: net0 + remove,
			stderr: "margay: VM 100 does not start, because the endpoint of net0 could not be made\n", fails: true},
		{behaviour: "takes no other flags from notes", config: notes("margay%3A --label a=b --config=/tmp/x"), phase: "pre-start",
			stderr: `margay: the notes of VM 100 have "--config=/tmp/x": want --namespace, --label,`, fails: true},
		{behaviour: "takes no other words from notes", config: notes("margay%3A $(reboot)"), phase: "pre-start",
			stderr: `margay: the notes of VM 100 have "$(reboot)": want`, fails: true},
		{behaviour: "passes values as they are", config: notes("margay%3A --label a=$(id);*"), phase: "pre-start",
			calls: "workload|add|vm100|--orchestrator|proxmox|--interface|tap100i0|--endpoint|net0|--mac|BC:24:11:2E:C4:01|--label=a=$(id);*|\n"},
		{behaviour: "says that a value is missing", config: notes("margay%3A --label"), phase: "pre-start",
			stderr: "margay: the notes of VM 100 have --label without a value\n", fails: true},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			t.Parallel()
			calls, stderr, code := runProxmoxHook(t, test.config, test.refuse, "100", test.phase)
			if calls != test.calls || !strings.HasPrefix(stderr, test.stderr) || (test.stderr == "") != (stderr == "") || (code != 0) != test.fails {
				t.Errorf("calls\n%s%sexit code %d\nwant\n%s%s", calls, stderr, code, test.calls, test.stderr)
			}
		})
	}
	if _, stderr, code := runProxmoxHook(t, config, false, "101", "pre-start"); code == 0 || !strings.Contains(stderr, "qm config 101 failed") {
		t.Errorf("a VM whose configuration cannot be read: %s, exit code %d", stderr, code)
	}
}
