package dataplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnotherAgentIsRecognised(t *testing.T) {
	for commandLine, want := range map[string]bool{
		"/usr/bin/calico-felix":                true,
		"calico-node -felix":                   true,
		"/bin/calico-node -confd":              false,
		"bin/felix --node a":                   false,
		"vim calico-felix":                     false,
		"/usr/local/bin/calico-node --felix x": true,
	} {
		proc := t.TempDir()
		must(t, os.Mkdir(filepath.Join(proc, "42"), 0o755))
		text := strings.ReplaceAll(commandLine, " ", "\x00") + "\x00"
		must(t, os.WriteFile(filepath.Join(proc, "42", "cmdline"), []byte(text), 0o644))
		if got := foreignAgent(proc); (got != "") != want {
			t.Errorf("%q: found %q", commandLine, got)
		}
	}
}

func TestThisHostMeetsTheRequirements(t *testing.T) {
	h := newHost(t)
	for _, err := range Check(h.pins) {
		t.Error(err)
	}
}

func TestKernelReleasesAreComparedByNumber(t *testing.T) {
	t.Parallel()
	for release, older := range map[string]bool{
		"6.6.0": false, "6.18.44-generic": false, "7.0": false, "6.5.13": true, "5.14.0-570.el9.x86_64": true, "4.19": true, "10.1": false,
	} {
		if isOlder(release, oldestKernel) != older {
			t.Errorf("%s: want older %t", release, older)
		}
	}
}

func TestMissingCapabilitiesAreNamed(t *testing.T) {
	t.Parallel()
	status := filepath.Join(t.TempDir(), "status")
	for effective, want := range map[string]string{
		"000001ffffffffff": "",
		"0000000000001000": "CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF not given: run as root",
		"no number":        "read the capabilities in " + status,
	} {
		must(t, os.WriteFile(status, []byte("Name:\tfelix\nCapEff:\t"+effective+"\nCapBnd:\t0\n"), 0o644))
		switch err := checkCapabilities(status); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", effective, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", effective, err, want)
		}
	}
}
