package calc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
)

// configOf is the configuration of a node with some parameters and FelixConfigurations.
func configOf(t *testing.T, parameters map[string]string, configs ...*api.FelixConfiguration) *State {
	t.Helper()
	var updates []api.Update
	for _, c := range configs {
		c.TypeMeta = api.TypeMeta{Kind: api.KindFelixConfiguration, APIVersion: api.APIVersion}
		updates = append(updates, api.Update{Key: api.KeyOf(c), Object: c})
	}
	s := Compute("n1", Facts{Parameters: parameters}, updates)
	g := New("n1", Facts{})
	for _, u := range updates {
		g.Update(u)
	}
	got := &State{}
	got.Fold(g.Flush())
	g.SetFacts(Facts{Parameters: parameters}) // comes later, and must make no difference
	got.Fold(g.Flush())
	if !got.Config.equal(s.Config) || !cmp.Equal(got.Problems, s.Problems) {
		t.Errorf("Graph has\n%+v %v\nand Compute\n%+v %v", got.Config, got.Problems, s.Config, s.Problems)
	}
	return s
}

func config(name string, spec api.FelixConfigurationSpec) *api.FelixConfiguration {
	return &api.FelixConfiguration{Metadata: api.Metadata{Name: name}, Spec: spec}
}

func TestTheEnvironmentWinsOverEveryFelixConfiguration(t *testing.T) {
	size, accept := 1000, "Accept"
	s := configOf(t, map[string]string{"bpfloglevel": "Debug", "DefaultEndpointToHostAction": "drop"},
		config("default", api.FelixConfigurationSpec{BPFLogLevel: "Off", BPFMapSizeConntrack: &size, InterfacePrefix: "tap"}),
		config("node.n1", api.FelixConfigurationSpec{BPFLogLevel: "Info", DefaultEndpointToHostAction: accept, LogSeverityScreen: "Warning"}),
		config("node.n2", api.FelixConfigurationSpec{LogSeverityScreen: "Error"}))
	c := s.Config
	if c.LogLevel != "debug" || c.ToHost || c.FlowTableSize != 1000 || c.ScreenLevel != "warning" {
		t.Errorf("%+v", c)
	}
	want := map[string]string{
		"bpfLogLevel": "environment", "defaultEndpointToHostAction": "environment", "bpfMapSizeConntrack": "default",
		"interfacePrefix": "default", "logSeverityScreen": "node.n1",
	}
	if diff := cmp.Diff(want, c.Sources); diff != "" {
		t.Error(diff)
	}
	if len(s.Problems) > 0 {
		t.Error(s.Problems)
	}
}

func TestAFelixConfigurationThatSelectsNoNodeChangesNothing(t *testing.T) {
	s := configOf(t, nil,
		config("default", api.FelixConfigurationSpec{BPFLogLevel: "Info"}),
		config("rack-1", api.FelixConfigurationSpec{BPFLogLevel: "Debug"}))
	if s.Config.LogLevel != "info" || s.Config.Sources["bpfLogLevel"] != "default" {
		t.Errorf("log level %s from %s", s.Config.LogLevel, s.Config.Sources["bpfLogLevel"])
	}
	if len(s.Problems) > 0 {
		t.Error(s.Problems)
	}
}

func TestParametersAreReadInCalicosForms(t *testing.T) {
	s := configOf(t, map[string]string{
		"bpfmapsizeconntrack": "0x400", "ipinipenabled": "no", "endpointreportingdelaysecs": "2.5", "routerefreshinterval": "1m",
		"iptableslockprobeintervalmillis": "50", "bpfconntracktimeouts": "TCPEstablished=2h, UDPTimeout=9s", "natportrange": "100:200",
		"externalnodescidrlist": "10.0.0.0/8,fd00::/8", "routetablerange": "1-250", "healthtimeoutoverrides": "x=3s",
		"kubenodeportranges": "1:2,7", "iptablesmarkmask": "0xff000000", "logseverityscreen": "none", "interfaceprefix": "tap,cali",
		"failsafeinboundhostports": "TCP:22,udp:[fd00::/64]:68,tcp:10.0.0.0/8:179,2379", "failsafeoutboundhostports": "none",
		"allowvxlanpacketsfromworkloads": "", // as if it were not there
	})
	want := map[string]string{
		"bpfMapSizeConntrack": "1024", "ipipEnabled": "false", "endpointReportingDelay": "2.5s", "routeRefreshInterval": "1m0s",
		"iptablesLockProbeInterval": "50ms", "bpfConntrackTimeouts": `{"TCPEstablished":"2h","UDPTimeout":"9s"}`, "natPortRange": "100:200",
		"externalNodesList": `["10.0.0.0/8","fd00::/8"]`, "routeTableRange": `{"min":1,"max":250}`,
		"healthTimeoutOverrides": `[{"name":"x","timeout":"3s"}]`, "kubeNodePortRanges": `["1:2",7]`, "iptablesMarkMask": "4278190080",
		"interfacePrefix": "tap,cali", "failsafeOutboundHostPorts": "[]",
		"failsafeInboundHostPorts": `[{"protocol":"tcp","port":22},{"protocol":"udp","port":68,"net":"fd00::/64"},` +
			`{"protocol":"tcp","port":179,"net":"10.0.0.0/8"},{"protocol":"tcp","port":2379}]`,
	}
	if diff := cmp.Diff(want, s.Config.Raw); diff != "" {
		t.Error(diff)
	}
	if len(s.Problems) > 0 {
		t.Error(s.Problems)
	}
	if s.Config.Timeouts.TCPEstablished != 2*time.Hour || s.Config.Timeouts.UDP != 9*time.Second || s.Config.ScreenLevel != "" {
		t.Errorf("%+v", s.Config)
	}
}

// An invalid value must not hide the valid ones.
func TestAnInvalidParameterIsAProblemAndTheDatastoreHolds(t *testing.T) {
	for parameter, c := range map[string]struct{ value, says string }{
		"bpfloglevel":               {"loud", "not one of off, info, debug"},
		"bpfmapsizeconntrack":       {"many", "want a number"},
		"bpfenabled":                {"perhaps", "want true or false"},
		"routerefreshinterval":      {"soon", "want a number of seconds, or a duration"},
		"failsafeinboundhostports":  {"tcp:22,icmp:3", "has no ports"},
		"failsafeouTboundhostports": {"tcp:here:22", "want PROTOCOL:PORT"},
		"externalnodeslist":         {",", "write none for nothing"},
		"natportrange":              {"9:1", "LOW:HIGH"},
		"bpflogfilters":             {"all", "NAME=VALUE"},
		"routetableranges":          {"1-x", "FIRST-LAST"},
		"bpfconntracktimeouts":      {"UDPTimeout=never", "is not a duration"},
		"bpflogleve":                {"Debug", "did you mean FELIX_BPFLOGLEVEL?"},
		"nodeselector":              {"all()", "no setting has this name"},
		"zzz":                       {"1", "remove it"},
	} {
		s := configOf(t, map[string]string{parameter: c.value}, config("default", api.FelixConfigurationSpec{BPFLogLevel: "Info"}))
		if s.Config.LogLevel != "info" || len(s.Config.Raw) != 1 {
			t.Errorf("%s=%s is in force: %+v", parameter, c.value, s.Config)
		}
		problems := s.SortedProblems()
		if len(problems) != 1 || !strings.Contains(problems[0].Text, c.says) ||
			problems[0].Object.String() != "Environment(FELIX_"+strings.ToUpper(parameter)+")" {
			t.Errorf("%s=%s: problems %v lack %q", parameter, c.value, problems, c.says)
		}
		if wrong := CheckParameters(map[string]string{parameter: c.value}); len(wrong) != 1 {
			t.Errorf("%s=%s: %v", parameter, c.value, wrong)
		}
	}
}

func TestAnyFieldCanBeAParameter(t *testing.T) {
	texts := []string{"1", "true", "1s", "a=1", "tcp:1", "1-2", "a=1s"}
	for field := range specFields() {
		if fieldName(field) == "nodeSelector" {
			continue
		}
		read := false
		for _, text := range texts {
			_, err := parameterValue(field.Type, text, time.Second)
			read = read || err == nil
		}
		if !read {
			t.Errorf("%s can be given in no form", fieldName(field))
		}
		if _, err := parameterValue(field.Type, "None", time.Second); err != nil {
			t.Errorf("%s: none: %v", fieldName(field), err)
		}
	}
}

func TestFailsafeProtocolsAreReadInAnyForm(t *testing.T) {
	for text, want := range map[string]uint8{"tcp": 6, "TCP": 6, "6": 6, " 17 ": 17, "Udp": 17, "sctp": 132, "": 6, "0": 0, "256": 0, "x": 0} {
		if got, known := protocolNamed(text); got != want && known {
			t.Errorf("%q: %d", text, got)
		} else if known != (want != 0) {
			t.Errorf("%q: known %v", text, known)
		}
	}
	s := configOf(t, nil, config("default", api.FelixConfigurationSpec{
		FailsafeInboundHostPorts: &[]api.ProtoPort{{Protocol: "6", Port: 22}, {Protocol: "UDP", Port: 68}, {Protocol: "1", Port: 1}},
	}))
	if problems := s.SortedProblems(); len(problems) != 1 || !strings.Contains(problems[0].Text, `protocol "1" has no ports`) {
		t.Error(problems)
	}
}

func TestOtherProtocolsOfBridgedWorkloadsAreDroppedUnlessAFieldSaysOtherwise(t *testing.T) {
	var notes []string
	note := func(_, format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for value, want := range map[string]bool{"Allow": true, "Drop": false, "Perhaps": false} {
		if c := readSpec(api.FelixConfigurationSpec{BridgedNonIPTraffic: &value}, note); c.BridgedNotIP != want {
			t.Errorf("%s: %v", value, c.BridgedNotIP)
		}
	}
	if c := readSpec(api.FelixConfigurationSpec{}, note); c.BridgedNotIP || len(notes) != 1 {
		t.Errorf("without a field: %v, notes %q", c.BridgedNotIP, notes)
	}
}

func TestDHCPOfWorkloadsIsOnUnlessAFieldSaysOtherwise(t *testing.T) {
	off, wrong, servers := "Disabled", "Perhaps", []string{"192.0.2.53", "nonsense", "2001:db8::53"}
	var notes []string
	note := func(_, format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if c := readSpec(api.FelixConfigurationSpec{}, note); !c.DHCP || c.Resolvers.Set {
		t.Errorf("without fields: %v, %+v", c.DHCP, c.Resolvers)
	}
	if c := readSpec(api.FelixConfigurationSpec{WorkloadDHCP: &off}, note); c.DHCP {
		t.Error("Disabled has no effect")
	}
	if len(notes) != 0 {
		t.Errorf("notes without a reason: %v", notes)
	}
	c := readSpec(api.FelixConfigurationSpec{WorkloadDHCP: &wrong, WorkloadDNSServers: &servers}, note)
	if want := "[192.0.2.53 2001:db8::53]"; !c.DHCP || fmt.Sprint(c.Resolvers.Addresses) != want || len(notes) != 2 {
		t.Errorf("%v, %v, notes %q", c.DHCP, c.Resolvers, notes)
	}
	if c := readSpec(api.FelixConfigurationSpec{WorkloadDNSServers: &[]string{}}, note); !c.Resolvers.Set || len(c.Resolvers.Addresses) != 0 {
		t.Errorf("an empty list: %+v", c.Resolvers)
	}
}

func TestTheHostnameOfAWorkload(t *testing.T) {
	for workload, want := range map[string]string{"web-1": "web-1", "Web1": "web1", "shop.web": "", "": "", strings.Repeat("a", 64): "", "-a": ""} {
		spec := api.WorkloadEndpointSpec{Workload: workload}
		if got := spec.Hostname(); got != want {
			t.Errorf("%q: %q, want %q", workload, got, want)
		}
	}
}
