package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"runtime/pprof"
	"slices"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane"
)

// requirements says which needs of felix the host meets.
func requirements(pinDir string) (list []*agentv1.Requirement) {
	for _, r := range dataplane.Requirements(pinDir) {
		list = append(list, &agentv1.Requirement{Name: r.Name, Optional: r.Optional, Found: r.Found, Missing: text(r.Err)})
	}
	return list
}

// processFiles returns profiles of goroutines and of the heap.
func processFiles() (files []*agentv1.File) {
	for _, f := range []struct {
		profile, name string
		debug         int
	}{{"goroutine", "goroutines.txt", 1}, {"heap", "heap.pprof", 0}} {
		var content bytes.Buffer
		if err := pprof.Lookup(f.profile).WriteTo(&content, f.debug); err != nil {
			fmt.Fprintln(&content, err)
		}
		files = append(files, &agentv1.File{Name: f.name, Content: content.Bytes()})
	}
	return files
}

// diagnose returns the settings of felix, and the result of the calculation for this node. Policies and sets are in the dump.
func (a *agent) diagnose() ([]*agentv1.File, error) {
	state, err := json.MarshalIndent(&a.state, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the state as JSON: %w", err)
	}
	return []*agentv1.File{
		{Name: "settings.txt", Content: []byte(a.settings.summary())},
		{Name: "state.json", Content: append(state, '\n')},
	}, nil
}

// summary lists the settings with which felix was started, a line each, without passwords and keys.
func (s *settings) summary() string {
	var out strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&out, "%s: %v\n", name, value) }
	line("node-name", s.nodeName)
	line("etcd-endpoints", strings.Join(s.datastore.Endpoints, ","))
	line("etcd-discovery-srv", s.datastore.DiscoverySRV)
	line("etcd-ca-file", s.datastore.CAFile)
	line("etcd-cert-file", s.datastore.CertFile)
	line("etcd-key-file", s.datastore.KeyFile)
	line("etcd-username", s.datastore.Username)
	line("embedded-etcd", s.embeddedDir)
	line("embedded-etcd-listen", s.embeddedListen)
	line("ip", s.ipv4.address)
	line("ip6", s.ipv6.address)
	line("ip-autodetection-method", s.ipv4.method)
	line("ip6-autodetection-method", s.ipv6.method)
	line("as-number", s.asNumber)
	line("labels", s.labels)
	line("pin-dir", s.pinDir)
	line("agent-socket", s.agentSocket)
	line("secrets-dir", s.secretsDir)
	line("log-level", s.logLevel)
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		line("FELIX_"+strings.ToUpper(name), s.parameters[name])
	}
	return out.String()
}
