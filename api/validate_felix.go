package api

import (
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// words lists the values that a setting may have, separated by blanks.
type words struct {
	field   string
	anyCase bool
	values  string
}

func felixWords() []words {
	return []words{
		{"awsSrcDstCheck", false, "DoNothing Enable Disable"},
		{"bpfAttachType", false, "TC TCX Netkit"},
		{"bpfConnectTimeLoadBalancing", false, "TCP Enabled Disabled"},
		{"bpfConntrackLogLevel", false, "Off Debug"},
		{"bpfConntrackMode", false, "Auto Userspace BPFProgram"},
		{"bpfEnforceRPF", true, "Disabled Strict Loose"},
		{"bpfExternalServiceMode", true, "Tunnel DSR"},
		{"bpfHostNetworkedNATWithoutCTLB", false, "Enabled Disabled"},
		{"bpfJITHardening", false, "Auto Strict"},
		{"bpfLogLevel", true, "Off Info Debug"},
		{"bpfMapSizeConntrackScaling", true, "Disabled DoubleIfFull"},
		{"bpfOverlayHostSourceIP", false, "TunnelAddress HostAddress"},
		{"bpfProfiling", false, "Enabled Disabled"},
		{"bpfRedirectToPeer", false, "Enabled Disabled"},
		{"bridgedNonIPTraffic", false, "Allow Drop"},
		{"chainInsertMode", true, "Insert Append"},
		{"defaultEndpointToHostAction", true, "Drop Accept Return"},
		{"floatingIPs", false, "Enabled Disabled"},
		{"flowLogsLocalReporter", false, "Disabled Enabled"},
		{"flowLogsPolicyEvaluationMode", false, "None Continuous"},
		{"ipForwarding", false, "Enabled Disabled"},
		{"iptablesBackend", false, "Legacy NFT Auto"},
		{"iptablesFilterAllowAction", true, "Accept Return"},
		{"iptablesFilterDenyAction", true, "Drop Reject"},
		{"iptablesMangleAllowAction", true, "Accept Return"},
		{"istioAmbientMode", false, "Enabled Disabled"},
		{"localSubnetL2Reachability", false, "Disabled PodsAndLoadBalancers"},
		{"logSeverityFile", true, "Trace Debug Info Warning Error Fatal"},
		{"logSeverityScreen", true, "Trace Debug Info Warning Error Fatal"},
		{"logSeveritySys", true, "Trace Debug Info Warning Error Fatal"},
		{"natOutgoingExclusions", false, "IPPoolsOnly IPPoolsAndHostIPs"},
		{"nftablesFilterAllowAction", true, "Accept Return"},
		{"nftablesFilterDenyAction", true, "Drop Reject"},
		{"nftablesFlowTableOffload", false, "All Disabled"},
		{"nftablesMangleAllowAction", true, "Accept Return"},
		{"nftablesMode", false, "Disabled Enabled Auto"},
		{"programClusterRoutes", false, "Enabled Disabled EnabledIPIPOnly EnabledNoEncapOnly"},
		{"prometheusMetricsClientAuth", false,
			"RequireAndVerifyClientCert RequireAnyClientCert VerifyClientCertIfGiven NoClientCert"},
		{"routeSource", true, "WorkloadIPs CalicoIPAM"},
		{"serviceLoopPrevention", false, "Drop Reject Disabled"},
		{"windowsManageFirewallRules", false, "Enabled Disabled"},
		{"workloadDHCP", false, "Enabled Disabled"},
		{"workloadSourceSpoofing", false, "Disabled Any"},
	}
}

// span is the range of a setting, both ends included.
type span struct {
	field     string
	low, high int64
}

func felixSpans() []span {
	return []span{
		{"bpfExtToServiceConnmark", 0, math.MaxUint32},
		{"bpfKubeProxyHealthzPort", 0, 65535},
		{"bpfMaglevMaxEndpointsPerService", 1, 3000},
		{"bpfMaglevMaxServices", 1, 3000},
		{"bpfMapSizeConntrackCleanupQueue", 1, math.MaxInt64},
		{"debugPort", 0, 65535},
		{"goGCThreshold", -1, math.MaxInt64},
		{"goMaxProcs", -1, math.MaxInt64},
		{"goMemoryLimitMB", -1, math.MaxInt64},
		{"iptablesMarkMask", 0, math.MaxUint32},
		{"ipv4ElevatedRoutePriority", 1, math.MaxInt32 - 1},
		{"ipv4NormalRoutePriority", 1, math.MaxInt32 - 1},
		{"ipv6ElevatedRoutePriority", 1, math.MaxInt32 - 1},
		{"ipv6NormalRoutePriority", 1, math.MaxInt32 - 1},
		{"logActionRateLimitBurst", 0, 9999},
		{"nftablesMarkMask", 0, math.MaxUint32},
		{"wireguardListeningPort", 1, 65535},
		{"wireguardListeningPortV6", 1, 65535},
		{"wireguardRoutingRulePriority", 1, 32765},
	}
}

// felixPatterns returns the regular expressions that some settings must match.
func felixPatterns() map[string]string {
	return map[string]string{
		"featureDetectOverride":              `^(\w+=(true|false|),)*(\w+=(true|false|))?$`,
		"featureGates":                       `^(\w+=[^=,]+,+)*(\w+=[^=,]+)?$`,
		"iptablesNATOutgoingInterfaceFilter": `^[a-zA-Z0-9:._+-]{1,15}$`,
		"logActionRateLimit":                 `^[1-9]\d{0,3}/(second|minute|hour|day)$`,
		"logPrefix":                          `^[a-zA-Z0-9%: /_-]*$`,
		"prometheusMetricsHost":              `^[a-zA-Z0-9:._+-]{1,64}$`,
		"wireguardInterfaceName":             `^(\*|[a-zA-Z0-9_.-]{1,15})$`,
		"wireguardInterfaceNameV6":           `^(\*|[a-zA-Z0-9_.-]{1,15})$`,
	}
}

func (c *checker) felixConfiguration(f *FelixConfiguration) {
	c.name(f.Name, 127)
	s := &f.Spec
	c.felixNodeSelector(f)
	spec := reflect.ValueOf(s).Elem()
	values := map[string]reflect.Value{}
	for _, field := range fieldsOf(spec.Type()) {
		v := spec.FieldByIndex(field.index)
		if d, ok := v.Interface().(*Duration); ok && d != nil {
			c.felixDuration(field.name, *d)
		}
		values[field.name] = v
	}
	c.felixTexts(values)
	c.felixAddresses(s)
	c.felixInterfaces(s)
	c.felixNames(s)
	c.felixPorts(s)
	c.felixTables(s)
	c.felixTimeouts(s.BPFConntrackTimeouts)
}

// felixTexts checks the settings with words, ranges and regular expressions. A setting that is left out is valid.
func (c *checker) felixTexts(values map[string]reflect.Value) {
	for _, w := range felixWords() {
		path, allowed := "spec."+w.field, strings.Fields(w.values)
		v := values[w.field]
		switch {
		case v.Kind() == reflect.Pointer:
			c.optionalOneOf(path, v.Interface().(*string), allowed...)
		case w.anyCase:
			c.oneOfAnyCase(path, v.String(), allowed...)
		default:
			c.oneOf(path, v.String(), allowed...)
		}
	}
	for _, r := range felixSpans() {
		if v := reflect.Indirect(values[r.field]); v.IsValid() {
			c.between("spec."+r.field, v.Int(), r.low, r.high)
		}
	}
	for name, pattern := range inOrder(felixPatterns()) {
		v := values[name]
		given := v.Kind() == reflect.Pointer && !v.IsNil() || v.Kind() == reflect.String && v.String() != ""
		if text := reflect.Indirect(v).String(); given && !regexp.MustCompile(pattern).MatchString(text) {
			c.add("spec."+name, text, "want text that matches %s", pattern)
		}
	}
	for _, name := range []string{"bpfDataIfacePattern", "bpfDisableGROForIfaces", "bpfL3IfacePattern",
		"logDebugFilenameRegex", "mtuIfacePattern", "nftablesFlowTableDataIfacePattern"} {
		if _, err := regexp.Compile(values[name].String()); err != nil {
			c.add("spec."+name, values[name].String(), "want a regular expression: %v", err)
		}
	}
}

func (c *checker) felixNodeSelector(f *FelixConfiguration) {
	switch s := f.Spec.NodeSelector; {
	case f.appliesByName() && s != "":
		c.add("spec.nodeSelector", s, "%s applies by its name: remove it", f.Name)
	case len(s) > 1024:
		c.add("spec.nodeSelector", s, "%d characters: want at most 1024", len(s))
	}
}

// appliesByName says whether nodes use the object because of its name. Otherwise its nodeSelector decides.
func (f *FelixConfiguration) appliesByName() bool {
	return f.Name == "default" || strings.HasPrefix(f.Name, "node.")
}

// felixDuration checks that a duration is not negative and has whole milliseconds. Calico does not check the settings named here.
func (c *checker) felixDuration(field string, d Duration) {
	switch field {
	case "dataplaneWatchdogTimeout", "localSubnetL2ReachabilityRefreshInterval", "nftablesRefreshInterval":
		return
	}
	if d.Duration < 0 || d.Duration%time.Millisecond != 0 {
		c.add("spec."+field, d, "want a duration in h, m, s or ms that is not negative, such as 90s or 1h30m")
	}
}

func (c *checker) felixAddresses(s *FelixConfigurationSpec) {
	for path, a := range inOrder(map[string]string{"spec.natOutgoingAddress": s.NATOutgoingAddress,
		"spec.deviceRouteSourceAddress": s.DeviceRouteSourceAddress}) {
		if a != "" {
			c.address(path, a, 4)
		}
	}
	if a := s.DeviceRouteSourceAddressIPv6; a != "" {
		c.address("spec.deviceRouteSourceAddressIPv6", a, 6)
	}
	if servers := s.WorkloadDNSServers; servers != nil {
		for i, a := range *servers {
			c.address(at("spec.workloadDNSServers", i), a, 0)
		}
	}
	for path, nets := range inOrder(map[string]*[]string{"spec.externalNodesList": s.ExternalNodesList,
		"spec.bpfExcludeCIDRsFromNAT": s.BPFExcludeCIDRsFromNAT, "spec.bpfDSROptoutCIDRs": s.BPFDSROptoutCIDRs}) {
		if nets == nil {
			continue
		}
		family := 0
		if path == "spec.externalNodesList" {
			family = 4
		}
		for i, n := range *nets {
			c.net(at(path, i), n, family)
		}
	}
}

// felixNames checks the names of interfaces, of components and of the region.
func (c *checker) felixNames(s *FelixConfigurationSpec) {
	if filters := s.BPFLogFilters; filters != nil {
		for _, name := range sortedKeys(*filters) {
			c.interfaceName("spec.bpfLogFilters", name)
		}
	}
	const longest = 63 - len("openstack-region-")
	if region := s.OpenstackRegion; region != "" && !(isLabel(region) && len(region) <= longest) {
		c.add("spec.openstackRegion", region, "want a-z, 0-9 and dashes inside, at most %d characters", longest)
	}
	for i, o := range s.HealthTimeoutOverrides {
		path := at("spec.healthTimeoutOverrides", i)
		if o.Name == "" || !hasOnly(o.Name, "_ -") {
			c.add(path+".name", o.Name, "want letters, digits, '_', '-' and blanks")
		}
		if o.Timeout.Duration < 0 {
			c.add(path+".timeout", o.Timeout, "want a duration that is not negative")
		}
	}
}

func (c *checker) felixInterfaces(s *FelixConfigurationSpec) {
	if s.BPFForceTrackPacketsFromIfaces == nil {
		return
	}
	for i, name := range *s.BPFForceTrackPacketsFromIfaces {
		if name == "" || len(name) > 15 || !hasOnly(name, ":._+-") {
			c.add(at("spec.bpfForceTrackPacketsFromIfaces", i), name, "want the name of an interface; a + at its end stands for any text")
		}
	}
}

// felixPorts checks ports. It does not check failsafe ports: stored ones may have any form, and the agent reports those that it
// cannot use.
func (c *checker) felixPorts(s *FelixConfigurationSpec) {
	for path, port := range inOrder(map[string]*Port{"spec.bpfPSNATPorts": s.BPFPSNATPorts, "spec.natPortRange": s.NATPortRange}) {
		if port != nil {
			c.port(path, *port)
		}
	}
	if s.KubeNodePortRanges == nil {
		return
	}
	path := "spec.kubeNodePortRanges"
	if len(*s.KubeNodePortRanges) > 7 {
		c.add(path, len(*s.KubeNodePortRanges), "want at most 7 ranges")
	}
	for i, p := range *s.KubeNodePortRanges {
		if p.Name != "" || p.First == 0 {
			c.add(at(path, i), p, "want a port or a range such as 30000:32767")
		}
	}
}

func (c *checker) felixTables(s *FelixConfigurationSpec) {
	if r := s.RouteTableRange; r != nil {
		c.between("spec.routeTableRange.min", int64(r.Min), 1, 250)
		c.between("spec.routeTableRange.max", int64(r.Max), int64(r.Min), 250)
		if s.RouteTableRanges != nil {
			c.add("spec.routeTableRange", r, "cannot be combined with routeTableRanges: remove it")
		}
	}
	if s.RouteTableRanges == nil {
		return
	}
	total := int64(0)
	for i, r := range *s.RouteTableRanges {
		path := at("spec.routeTableRanges", i)
		c.between(path+".min", int64(r.Min), 1, math.MaxUint32)
		c.between(path+".max", int64(r.Max), int64(r.Min), math.MaxUint32)
		total += int64(r.Max) - int64(r.Min) + 1
	}
	if total > math.MaxUint16 {
		c.add("spec.routeTableRanges", total, "want at most 65535 tables in all")
	}
}

func (c *checker) felixTimeouts(timeouts *map[string]string) {
	if timeouts == nil {
		return
	}
	duration := regexp.MustCompile(`^([0-9.]+(ms|s|h|m|us))+$`)
	names := []string{"creationGracePeriod", "tcpSynSent", "tcpEstablished", "tcpFinsSeen", "tcpResetSeen", "udpTimeout",
		"genericTimeout", "icmpTimeout"}
	for _, name := range sortedKeys(*timeouts) {
		path, value := "spec.bpfConntrackTimeouts."+name, (*timeouts)[name]
		known := false
		for _, n := range names {
			known = known || strings.EqualFold(n, name)
		}
		if !known {
			c.add(path, value, "unknown timeout: want one of %s", strings.Join(names, ", "))
		}
		if _, err := time.ParseDuration(value); value != "Auto" && (err != nil || !duration.MatchString(value)) {
			c.add(path, value, "want a duration in h, m, s, ms or us, such as 30s, or Auto")
		}
	}
}
