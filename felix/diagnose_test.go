package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

func TestFelixAnswersCheckSystemAndDiagnose(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	f := l.startSynced()
	f.awaitEnforced("cali-web")

	var diagnosis *agentv1.DiagnoseResponse
	var system *agentv1.CheckSystemResponse
	f.ask(func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		if system, err = agent.CheckSystem(ctx, &agentv1.CheckSystemRequest{}); err != nil {
			return err
		}
		diagnosis, err = agent.Diagnose(ctx, &agentv1.DiagnoseRequest{})
		return err
	})
	for _, r := range system.Requirements {
		if r.Missing != "" {
			t.Errorf("%s: %s", r.Name, r.Missing)
		}
	}
	if len(system.Requirements) < 8 {
		t.Errorf("only %d requirements were checked", len(system.Requirements))
	}
	files := map[string]string{}
	for _, file := range diagnosis.Files {
		files[file.Name] = string(file.Content)
	}
	for name, want := range map[string]string{
		"goroutines.txt": "main.(*agent).run",
		"settings.txt":   "node-name: host1\netcd-endpoints: " + l.endpoint() + "\n",
		"state.json":     webAddress,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not contain %s:\n%s", name, want, files[name])
		}
	}
	if !json.Valid([]byte(files["state.json"])) {
		t.Error("state.json is not valid JSON")
	}
	if files["heap.pprof"] == "" {
		t.Error("heap.pprof is empty")
	}
}

func TestTheSettingsSummaryListsEveryFlag(t *testing.T) {
	t.Parallel()
	got := (&settings{}).summary()
	new(settings).flags().VisitAll(func(f *pflag.Flag) {
		if !isAction(f.Name) && !strings.Contains(got, f.Name+": ") {
			t.Errorf("the summary lacks %s:\n%s", f.Name, got)
		}
	})
}

func TestTheSettingsSummaryHidesSecrets(t *testing.T) {
	t.Parallel()
	s, err := parseSettings(
		[]string{"--node-name", "a", "--etcd-endpoints", "https://etcd:2379", "--etcd-username", "felix"},
		[]string{"FELIX_ETCDPASSWORD=hush", "FELIX_BPFLOGLEVEL=debug"})
	must(t, err)
	got := s.summary()
	if strings.Contains(got, "hush") {
		t.Errorf("the summary contains the password:\n%s", got)
	}
	for _, line := range []string{"node-name: a\n", "etcd-username: felix\n", "FELIX_BPFLOGLEVEL: debug\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("the summary lacks %q:\n%s", line, got)
		}
	}
}
