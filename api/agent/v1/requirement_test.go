package agentv1

import (
	"strings"
	"testing"
)

func TestRequirementsAreALineEach(t *testing.T) {
	t.Parallel()
	list := []*Requirement{
		{Name: "kernel", Found: "Linux 6.18"},
		{Name: "nftables", Optional: true, Missing: "no such thing: load it"},
	}
	var out strings.Builder
	if err := PrintRequirements(&out, list); err != nil {
		t.Error(err)
	}
	err := PrintRequirements(&out, append(list, &Requirement{Name: "tcx", Missing: "it is not there"}))
	if err == nil || !strings.Contains(err.Error(), "lacks something") {
		t.Errorf("error %v", err)
	}
	want := "ok       kernel: Linux 6.18\nwarning  nftables: no such thing: load it\n"
	if want += want + "missing  tcx: it is not there\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
