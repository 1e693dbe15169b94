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

func TestThisHostHasWhatIsNeeded(t *testing.T) {
	h := newHost(t)
	for _, err := range Check(h.pins) {
		t.Error(err)
	}
}
