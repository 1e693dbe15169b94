package calc

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

const kindConfig = "FelixConfiguration"

// deviceRouteProtocol marks our routes in the kernel unless FelixConfiguration says otherwise. It is a number of our own:
// 80 is Calico's, and the dialect's default of 3 is what boot scripts use; the routes of neither are ours to remove.
const deviceRouteProtocol = 86

// configuration is everything that FelixConfiguration decides.
type configuration struct {
	Config
	inbound, outbound []failsafePort
	problems          []Problem
}

// readConfig merges the FelixConfigurations that hold for a node, field by field, and reads the result.
func readConfig(node string, o objects) configuration {
	spec, from, problems := mergeConfig(node, o)
	c := configuration{problems: problems}
	note := func(format string, args ...any) {
		c.problems = append(c.problems, Problem{Object: from, Text: fmt.Sprintf(format, args...)})
	}
	c.Config = Config{
		Raw:                 rawFields(spec),
		InterfacePrefixes:   prefixes(spec.InterfacePrefix),
		AllowVXLAN:          is(spec.AllowVXLANPacketsFromWorkloads),
		AllowIPIP:           is(spec.AllowIPIPPacketsFromWorkloads),
		FlowTableSize:       512000,
		DeviceRouteProtocol: deviceRouteProtocol,
	}
	if n := spec.BPFMapSizeConntrack; n != nil {
		if *n > 0 {
			c.FlowTableSize = *n
		} else {
			note("bpfMapSizeConntrack %d is no size, the default of %d is used: give a positive number", *n, c.FlowTableSize)
		}
	}
	if n := spec.DeviceRouteProtocol; n != nil {
		if *n > 0 && *n < 256 {
			c.DeviceRouteProtocol = *n
		} else {
			note("deviceRouteProtocol %d is ignored: give a number from 1 to 255", *n)
		}
	}
	word := func(field, value, otherwise string, allowed ...string) string {
		lower := strings.ToLower(value)
		if lower == "" {
			return otherwise
		}
		if !slices.Contains(allowed, lower) {
			note("%s %q is not one of %s and is ignored: correct it", field, value, strings.Join(allowed, ", "))
			return otherwise
		}
		return lower
	}
	c.LogLevel = word("bpfLogLevel", spec.BPFLogLevel, "off", "off", "info", "debug")
	c.ScreenLevel = word("logSeverityScreen", spec.LogSeverityScreen, "",
		"trace", "debug", "info", "warning", "error", "fatal")
	toHost := word("defaultEndpointToHostAction", spec.DefaultEndpointToHostAction, "drop", "drop", "accept", "return")
	c.ToHost = toHost != "drop"
	c.Timeouts = readTimeouts(spec.BPFConntrackTimeouts, note)
	if spec.BPFEnabled != nil && !*spec.BPFEnabled {
		note("bpfEnabled is false, but this agent enforces with eBPF and nothing else, so it is enforced anyway: " +
			"remove the field, or stop the agent to enforce nothing")
	}
	var wrong []string
	c.inbound, wrong = readFailsafes("failsafeInboundHostPorts", spec.FailsafeInboundHostPorts, defaultInbound())
	for _, text := range wrong {
		note("%s", text)
	}
	c.outbound, wrong = readFailsafes("failsafeOutboundHostPorts", spec.FailsafeOutboundHostPorts, defaultOutbound())
	for _, text := range wrong {
		note("%s", text)
	}
	return c
}

// mergeConfig lays the node's own FelixConfiguration over the one that selects it, and that over default. It also
// names the object that problems of the result are shown at: the most specific one.
func mergeConfig(node string, o objects) (merged api.FelixConfigurationSpec, from api.Key, problems []Problem) {
	from = api.Key{Kind: kindConfig, Name: "default"}
	var layers []*api.FelixConfiguration
	if c := named[api.FelixConfiguration](o, kindConfig, "default"); c != nil {
		layers = append(layers, c)
	}
	selecting, key, problems := selectingConfig(node, o)
	if selecting != nil {
		layers, from = append(layers, selecting), key
	}
	if c := named[api.FelixConfiguration](o, kindConfig, "node."+node); c != nil {
		layers, from = append(layers, c), api.Key{Kind: kindConfig, Name: "node." + node}
	}
	result := reflect.ValueOf(&merged).Elem()
	for _, layer := range layers {
		spec := reflect.ValueOf(layer.Spec)
		for i := range spec.NumField() {
			if field := spec.Field(i); !field.IsZero() {
				result.Field(i).Set(field)
			}
		}
	}
	return merged, from, problems
}

// selectingConfig is the FelixConfiguration whose nodeSelector selects the node: of several the oldest.
func selectingConfig(node string, o objects) (oldest *api.FelixConfiguration, key api.Key, problems []Problem) {
	var nodeLabels map[string]string
	if n := named[api.Node](o, "Node", node); n != nil {
		nodeLabels = n.Labels
	}
	configs, keys := valid[api.FelixConfiguration](o, kindConfig)
	for i, c := range configs {
		if keys[i].Name == "default" || strings.HasPrefix(keys[i].Name, "node.") || c.Spec.NodeSelector == "" {
			continue
		}
		s, err := selector.Parse(c.Spec.NodeSelector)
		if err != nil {
			problems = append(problems, Problem{Object: keys[i], Text: invalid(err.Error(), "it selects no node")})
			continue
		}
		if s.Matches(selector.Map(nodeLabels)) &&
			(oldest == nil || c.CreationTimestamp.Before(oldest.CreationTimestamp.Time)) {
			oldest, key = c, keys[i]
		}
	}
	return oldest, key, problems
}

func is(b *bool) bool { return b != nil && *b }

func prefixes(text string) (all []string) {
	for p := range strings.SplitSeq(text, ",") {
		if p = strings.TrimSpace(p); p != "" {
			all = append(all, p)
		}
	}
	if all == nil {
		all = []string{"cali"}
	}
	return all
}

// rawFields are the fields that are set, as JSON has them, text without quotes.
func rawFields(spec api.FelixConfigurationSpec) map[string]string {
	fields := map[string]json.RawMessage{}
	text, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return map[string]string{} // only what is for display is lost
	}
	raw := map[string]string{}
	for name, value := range fields {
		var plain string
		if json.Unmarshal(value, &plain) != nil {
			plain = string(value)
		}
		raw[name] = plain
	}
	return raw
}

// readTimeouts reads the connection tracker's timeouts; Auto and what cannot be read are the defaults.
func readTimeouts(texts *map[string]string, note func(string, ...any)) Timeouts {
	t := Timeouts{
		TCPSynSent:     20 * time.Second,
		TCPEstablished: time.Hour,
		TCPFinsSeen:    30 * time.Second,
		TCPResetSeen:   40 * time.Second,
		UDP:            time.Minute,
		Generic:        10 * time.Minute,
		ICMP:           5 * time.Second,
	}
	if texts == nil {
		return t
	}
	fields := map[string]*time.Duration{
		"tcpsynsent": &t.TCPSynSent, "tcpestablished": &t.TCPEstablished, "tcpfinsseen": &t.TCPFinsSeen,
		"tcpresetseen": &t.TCPResetSeen, "udptimeout": &t.UDP, "generictimeout": &t.Generic, "icmptimeout": &t.ICMP,
	}
	for name, text := range *texts {
		field := fields[strings.ToLower(name)]
		if field == nil || strings.EqualFold(text, "Auto") {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			note("bpfConntrackTimeouts %s %q is no duration, the default of %v is used: write it like 90s", name, text, *field)
			continue
		}
		*field = d
	}
	return t
}
