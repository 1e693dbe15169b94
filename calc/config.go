package calc

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// deviceRouteProtocol marks felix's routes in the kernel, unless FelixConfiguration says otherwise. It is a number that nobody else uses, so
// that felix never removes another program's routes: Calico uses 80, and boot scripts use 3, the default of Calico's API.
const deviceRouteProtocol = 86

// configuration is all that the FelixConfigurations and the environment decide.
type configuration struct {
	Config
	inbound, outbound []failsafePort
	problems          []Problem
}

// readConfig merges the environment and the FelixConfigurations that hold for a node, field by field, and reads the result.
func readConfig(node string, parameters map[string]string, o objects) configuration {
	m := mergeConfig(node, parameters, o)
	problems := m.problems
	c := readSpec(m.spec, func(field, format string, args ...any) {
		problems = append(problems, Problem{Object: m.from[field], Text: fmt.Sprintf(format, args...)})
	})
	c.problems = problems
	for name := range c.Raw {
		c.Sources[name] = source(m.from[name])
	}
	return c
}

// source names the origin of a setting for people.
func source(from api.Key) string {
	if from.Kind == api.KindFelixConfiguration {
		return from.Name
	}
	return "environment"
}

// readSpec reads the fields that this agent uses. It calls note for each that is not in force as written.
func readSpec(spec api.FelixConfigurationSpec, note func(field, format string, args ...any)) (c configuration) {
	c.Config = Config{
		Raw:                 rawFields(spec),
		Sources:             map[string]string{},
		InterfacePrefixes:   readPrefixes(spec.InterfacePrefix, note),
		AllowVXLAN:          is(spec.AllowVXLANPacketsFromWorkloads),
		AllowIPIP:           is(spec.AllowIPIPPacketsFromWorkloads),
		FlowTableSize:       512000,
		DeviceRouteProtocol: deviceRouteProtocol,
	}
	c.readNumbers(spec, note)
	c.readResolvers(spec.WorkloadDNSServers, note)
	c.readWords(spec, note)
	c.Timeouts = readTimeouts(spec.BPFConntrackTimeouts, note)
	if spec.BPFEnabled != nil && !*spec.BPFEnabled {
		note("bpfEnabled", "bpfEnabled is false, but this agent enforces only with eBPF, so policy is enforced anyway: "+
			"remove the field. To enforce nothing on a host, stop felix there and run felix --uninstall")
	}
	c.inbound = readFailsafes("failsafeInboundHostPorts", spec.FailsafeInboundHostPorts, defaultInbound(), note)
	c.outbound = readFailsafes("failsafeOutboundHostPorts", spec.FailsafeOutboundHostPorts, defaultOutbound(), note)
	return c
}

// readNumbers reads the fields with numbers. One that is out of range has its default.
func (c *configuration) readNumbers(spec api.FelixConfigurationSpec, note func(field, format string, args ...any)) {
	if n := spec.BPFMapSizeConntrack; n != nil {
		if *n > 0 {
			c.FlowTableSize = *n
		} else {
			note("bpfMapSizeConntrack", "bpfMapSizeConntrack %d is not a size, so it is ignored: give a positive number, the default is %d",
				*n, c.FlowTableSize)
		}
	}
	if n := spec.DeviceRouteProtocol; n != nil {
		if *n > 0 && *n < 256 {
			c.DeviceRouteProtocol = *n
		} else {
			note("deviceRouteProtocol", "deviceRouteProtocol %d is ignored: give a number from 1 to 255", *n)
		}
	}
	c.RouteMetric4 = readMetric("ipv4NormalRoutePriority", spec.IPv4NormalRoutePriority, note)
	c.RouteMetric6 = readMetric("ipv6NormalRoutePriority", spec.IPv6NormalRoutePriority, note)
}

// readResolvers reads the DNS servers for workloads. One that is no address is left out.
func (c *configuration) readResolvers(servers *[]string, note func(field, format string, args ...any)) {
	if servers == nil {
		return
	}
	c.Resolvers.Set = true
	for _, text := range *servers {
		a, err := api.ParseAddr(text)
		if err != nil {
			note("workloadDNSServers", "workloadDNSServers: %v: correct it; until then workloads do not get this resolver", err)
			continue
		}
		c.Resolvers.Addresses = append(c.Resolvers.Addresses, a)
	}
}

// readMetric reads the metric of routes. 0 stands for the kernel's default.
func readMetric(field string, n *int, note func(field, format string, args ...any)) int {
	switch {
	case n == nil:
		return 0
	case *n < 1 || *n >= math.MaxInt32:
		note(field, "%s %d is ignored: give a number from 1 to %d", field, *n, math.MaxInt32-1)
		return 0
	}
	return *n
}

// readWords reads the fields that have one of several words, in any case. Another word counts as not set.
func (c *configuration) readWords(spec api.FelixConfigurationSpec, note func(field, format string, args ...any)) {
	word := func(field, value, otherwise string, allowed ...string) string {
		lower := strings.ToLower(value)
		if lower == "" {
			return otherwise
		}
		if !slices.Contains(allowed, lower) {
			note(field, "%s %q is not one of %s, so it is ignored: correct it", field, value, strings.Join(allowed, ", "))
			return otherwise
		}
		return lower
	}
	c.LogLevel = word("bpfLogLevel", spec.BPFLogLevel, "off", "off", "info", "debug")
	c.ScreenLevel = word("logSeverityScreen", spec.LogSeverityScreen, "",
		"trace", "debug", "info", "warning", "error", "fatal")
	toHost := word("defaultEndpointToHostAction", spec.DefaultEndpointToHostAction, "drop", "drop", "accept", "return")
	c.ToHost = toHost != "drop"
	c.SourceNets = word("workloadSourceSpoofing", spec.WorkloadSourceSpoofing, "disabled", "disabled", "any") == "any"
	c.BridgedNotIP = spec.BridgedNonIPTraffic != nil && word("bridgedNonIPTraffic", *spec.BridgedNonIPTraffic, "drop", "allow", "drop") == "allow"
	c.DHCP = spec.WorkloadDHCP == nil || word("workloadDHCP", *spec.WorkloadDHCP, "enabled", "enabled", "disabled") == "enabled"
	if text := spec.ProgramClusterRoutes; text != nil {
		routes := word("programClusterRoutes", *text, "enabledipiponly", "enabled", "disabled", "enabledipiponly", "enablednoencaponly")
		c.ClusterRoutes = routes == "enabled" || routes == "enablednoencaponly"
	}
}

// mergedConfig is one configuration made of several.
type mergedConfig struct {
	spec     api.FelixConfigurationSpec
	from     map[string]api.Key // the origin of each field that is set, by its name in manifests
	problems []Problem
}

// mergeConfig merges the layers of a node's configuration. From the weakest to the strongest: the FelixConfiguration default, the one
// whose nodeSelector selects the node, the node's own, and the parameters.
func mergeConfig(node string, parameters map[string]string, o objects) mergedConfig {
	m := mergedConfig{from: map[string]api.Key{}}
	object := func(name string) {
		if c := named[api.FelixConfiguration](o, api.KindFelixConfiguration, name); c != nil {
			m.lay(c.Spec, nil, func(string) api.Key { return api.Key{Kind: api.KindFelixConfiguration, Name: name} })
		}
	}
	object("default")
	selecting, key, problems := selectingConfig(node, o)
	m.problems = problems
	if selecting != nil {
		m.lay(selecting.Spec, nil, func(string) api.Key { return key })
	}
	object("node." + node)
	top, problems := readParameters(parameters)
	m.problems = append(m.problems, problems...)
	m.lay(top.spec, top.set, parameterKey)
	return m
}

// lay overrides fields by those of a stronger layer: by all that are set, and by the zero values of those in also.
func (m *mergedConfig) lay(spec api.FelixConfigurationSpec, also map[int]bool, from func(field string) api.Key) {
	result, layer := reflect.ValueOf(&m.spec).Elem(), reflect.ValueOf(spec)
	for i := range layer.NumField() {
		if field := layer.Field(i); !field.IsZero() || also[i] {
			result.Field(i).Set(field)
			name := fieldName(layer.Type().Field(i))
			m.from[name] = from(name)
		}
	}
}

// selectingConfig finds the FelixConfiguration whose nodeSelector selects the node; of several the oldest.
func selectingConfig(node string, o objects) (oldest *api.FelixConfiguration, key api.Key, problems []Problem) {
	var nodeLabels map[string]string
	if n := named[api.Node](o, api.KindNode, node); n != nil {
		nodeLabels = n.Labels
	}
	configs, keys := valid[api.FelixConfiguration](o, api.KindFelixConfiguration)
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

// rawFields are the fields that are set, as JSON, texts without quotes.
func rawFields(spec api.FelixConfigurationSpec) map[string]string {
	fields := map[string]json.RawMessage{}
	text, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return map[string]string{} // they are for display only
	}
	raw := map[string]string{}
	for name, value := range fields {
		if string(value) == `""` {
			continue // an empty text counts as not set
		}
		var plain string
		if json.Unmarshal(value, &plain) != nil {
			plain = string(value)
		}
		raw[name] = plain
	}
	return raw
}

// readTimeouts reads the timeouts of tracked connections. Auto, and an invalid one, mean the default.
func readTimeouts(texts *map[string]string, note func(field, format string, args ...any)) Timeouts {
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
			note("bpfConntrackTimeouts", "bpfConntrackTimeouts %s %q is not a duration, so it is ignored: write it like 90s, the default is %v", name, text, *field)
			continue
		}
		*field = d
	}
	return t
}
