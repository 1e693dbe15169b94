package api

// FelixConfiguration holds settings of the agent. The object named default is for every node, node.NAME for the node NAME only,
// and an object of any other name for the nodes that its nodeSelector selects.
type FelixConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     FelixConfigurationSpec `json:"spec"`
}

// FelixConfigurationSpec has every field that exists in stored objects, also those that have no effect in Margay, so that
// no field is lost when an object is read, changed and written. A field that is present but empty differs from an absent one.
//
// Fields without a comment: kept for Calico's agents; has no effect in Margay.
type FelixConfigurationSpec struct {
	AllowIPIPPacketsFromWorkloads            *bool                   `json:"allowIPIPPacketsFromWorkloads,omitempty"`  // whether workloads may send IPIP packets: false unless set
	AllowVXLANPacketsFromWorkloads           *bool                   `json:"allowVXLANPacketsFromWorkloads,omitempty"` // whether workloads may send VXLAN packets: false unless set
	AWSSrcDstCheck                           *string                 `json:"awsSrcDstCheck,omitempty"`
	BPFAttachType                            *string                 `json:"bpfAttachType,omitempty"`
	BPFConnectTimeLoadBalancing              *string                 `json:"bpfConnectTimeLoadBalancing,omitempty"`
	BPFConnectTimeLoadBalancingEnabled       *bool                   `json:"bpfConnectTimeLoadBalancingEnabled,omitempty"`
	BPFConntrackLogLevel                     string                  `json:"bpfConntrackLogLevel,omitempty"`
	BPFConntrackMode                         *string                 `json:"bpfConntrackMode,omitempty"`
	BPFConntrackTimeouts                     *map[string]string      `json:"bpfConntrackTimeouts,omitempty"` // how long a connection without traffic is kept, as a duration or Auto: TCPSynSent 20s, TCPEstablished 1h, TCPFinsSeen 30s, TCPResetSeen 40s, UDPTimeout 60s, GenericTimeout 10m, ICMPTimeout 5s unless set
	BPFCTLBLogFilter                         string                  `json:"bpfCTLBLogFilter,omitempty"`
	BPFDataIfacePattern                      string                  `json:"bpfDataIfacePattern,omitempty"`
	BPFDisableGROForIfaces                   string                  `json:"bpfDisableGROForIfaces,omitempty"`
	BPFDisableUnprivileged                   *bool                   `json:"bpfDisableUnprivileged,omitempty"`
	BPFDSROptoutCIDRs                        *[]string               `json:"bpfDSROptoutCIDRs,omitempty"`
	BPFEnabled                               *bool                   `json:"bpfEnabled,omitempty"` // false has no effect but a warning: policy is always enforced with eBPF
	BPFEnforceRPF                            string                  `json:"bpfEnforceRPF,omitempty"`
	BPFExcludeCIDRsFromNAT                   *[]string               `json:"bpfExcludeCIDRsFromNAT,omitempty"`
	BPFExportBufferSizeMB                    *int                    `json:"bpfExportBufferSizeMB,omitempty"`
	BPFExternalServiceMode                   string                  `json:"bpfExternalServiceMode,omitempty"`
	BPFExtToServiceConnmark                  *int                    `json:"bpfExtToServiceConnmark,omitempty"`
	BPFForceTrackPacketsFromIfaces           *[]string               `json:"bpfForceTrackPacketsFromIfaces,omitempty"`
	BPFHostConntrackBypass                   *bool                   `json:"bpfHostConntrackBypass,omitempty"`
	BPFHostNetworkedNATWithoutCTLB           *string                 `json:"bpfHostNetworkedNATWithoutCTLB,omitempty"`
	BPFIPFragmentReassemblyEnabled           *bool                   `json:"bpfIPFragmentReassemblyEnabled,omitempty"`
	BPFIPFragTimeout                         *Duration               `json:"bpfIPFragTimeout,omitempty"`
	BPFJITHardening                          *string                 `json:"bpfJITHardening,omitempty"`
	BPFKubeProxyHealthzPort                  *int                    `json:"bpfKubeProxyHealthzPort,omitempty"`
	BPFKubeProxyIptablesCleanupEnabled       *bool                   `json:"bpfKubeProxyIptablesCleanupEnabled,omitempty"`
	BPFKubeProxyMinSyncPeriod                *Duration               `json:"bpfKubeProxyMinSyncPeriod,omitempty"`
	BPFL3IfacePattern                        string                  `json:"bpfL3IfacePattern,omitempty"`
	BPFLogFilters                            *map[string]string      `json:"bpfLogFilters,omitempty"`
	BPFLogLevel                              string                  `json:"bpfLogLevel"` // Off: nothing is logged; Info: dropped packets; Debug: new connections too; Off unless set
	BPFMaglevMaxEndpointsPerService          *int                    `json:"bpfMaglevMaxEndpointsPerService,omitempty"`
	BPFMaglevMaxServices                     *int                    `json:"bpfMaglevMaxServices,omitempty"`
	BPFMapSizeConntrack                      *int                    `json:"bpfMapSizeConntrack,omitempty"` // most proven connections that are tracked: 512000 unless set; each of the two tables for unproven connections holds an eighth of it, at least 4096
	BPFMapSizeConntrackCleanupQueue          *int                    `json:"bpfMapSizeConntrackCleanupQueue,omitempty"`
	BPFMapSizeConntrackScaling               string                  `json:"bpfMapSizeConntrackScaling,omitempty"`
	BPFMapSizeIfState                        *int                    `json:"bpfMapSizeIfState,omitempty"`
	BPFMapSizeIPSets                         *int                    `json:"bpfMapSizeIPSets,omitempty"`
	BPFMapSizeNATAffinity                    *int                    `json:"bpfMapSizeNATAffinity,omitempty"`
	BPFMapSizeNATBackend                     *int                    `json:"bpfMapSizeNATBackend,omitempty"`
	BPFMapSizeNATFrontend                    *int                    `json:"bpfMapSizeNATFrontend,omitempty"`
	BPFMapSizePerCpuConntrack                *int                    `json:"bpfMapSizePerCpuConntrack,omitempty"`
	BPFMapSizeRoute                          *int                    `json:"bpfMapSizeRoute,omitempty"`
	BPFOverlayHostSourceIP                   *string                 `json:"bpfOverlayHostSourceIP,omitempty"`
	BPFPolicyDebugEnabled                    *bool                   `json:"bpfPolicyDebugEnabled,omitempty"`
	BPFProfiling                             string                  `json:"bpfProfiling,omitempty"`
	BPFPSNATPorts                            *Port                   `json:"bpfPSNATPorts,omitempty"`
	BPFRedirectToPeer                        string                  `json:"bpfRedirectToPeer,omitempty"`
	BridgedNonIPTraffic                      *string                 `json:"bridgedNonIPTraffic,omitempty"` // frames of protocols other than IP and ARP from and to workloads on bridges: Allow or Drop; Drop unless set; a field of Margay, which Calico's agents ignore
	CgroupV2Path                             string                  `json:"cgroupV2Path,omitempty"`
	ChainInsertMode                          string                  `json:"chainInsertMode,omitempty"`
	DataplaneDriver                          string                  `json:"dataplaneDriver,omitempty"`
	DataplaneWatchdogTimeout                 *Duration               `json:"dataplaneWatchdogTimeout,omitempty"`
	DebugDisableLogDropping                  *bool                   `json:"debugDisableLogDropping,omitempty"`
	DebugHost                                *string                 `json:"debugHost,omitempty"`
	DebugMemoryProfilePath                   string                  `json:"debugMemoryProfilePath,omitempty"`
	DebugPort                                *int                    `json:"debugPort,omitempty"`
	DebugSimulateCalcGraphHangAfter          *Duration               `json:"debugSimulateCalcGraphHangAfter,omitempty"`
	DebugSimulateDataplaneApplyDelay         *Duration               `json:"debugSimulateDataplaneApplyDelay,omitempty"`
	DebugSimulateDataplaneHangAfter          *Duration               `json:"debugSimulateDataplaneHangAfter,omitempty"`
	DefaultEndpointToHostAction              string                  `json:"defaultEndpointToHostAction,omitempty"` // what happens to packets from a workload to its own host that its egress policy allows: Drop, Accept or Return; Drop unless set
	DeviceRouteProtocol                      *int                    `json:"deviceRouteProtocol,omitempty"`         // protocol number of the agent's routes in the kernel: 86 unless set; 0 to 4 mean 86
	DeviceRouteSourceAddress                 string                  `json:"deviceRouteSourceAddress,omitempty"`
	DeviceRouteSourceAddressIPv6             string                  `json:"deviceRouteSourceAddressIPv6,omitempty"`
	DisableConntrackInvalidCheck             *bool                   `json:"disableConntrackInvalidCheck,omitempty"`
	EndpointReportingDelay                   *Duration               `json:"endpointReportingDelay,omitempty"`
	EndpointReportingEnabled                 *bool                   `json:"endpointReportingEnabled,omitempty"`
	EndpointStatusPathPrefix                 string                  `json:"endpointStatusPathPrefix,omitempty"`
	ExternalNodesList                        *[]string               `json:"externalNodesList,omitempty"`
	FailsafeInboundHostPorts                 *[]ProtoPort            `json:"failsafeInboundHostPorts,omitempty"`  // ports of the host that no policy of a host endpoint closes; an empty list: none
	FailsafeOutboundHostPorts                *[]ProtoPort            `json:"failsafeOutboundHostPorts,omitempty"` // ports of other hosts that no policy of a host endpoint closes; an empty list: none
	FeatureDetectOverride                    string                  `json:"featureDetectOverride,omitempty"`
	FeatureGates                             string                  `json:"featureGates,omitempty"`
	FloatingIPs                              *string                 `json:"floatingIPs,omitempty"`
	FlowLogsCollectorDebugTrace              *bool                   `json:"flowLogsCollectorDebugTrace,omitempty"`
	FlowLogsFlushInterval                    *Duration               `json:"flowLogsFlushInterval,omitempty"`
	FlowLogsGoldmaneServer                   *string                 `json:"flowLogsGoldmaneServer,omitempty"`
	FlowLogsLocalReporter                    *string                 `json:"flowLogsLocalReporter,omitempty"`
	FlowLogsPolicyEvaluationMode             *string                 `json:"flowLogsPolicyEvaluationMode,omitempty"`
	GenericXDPEnabled                        *bool                   `json:"genericXDPEnabled,omitempty"`
	GoGCThreshold                            *int                    `json:"goGCThreshold,omitempty"`
	GoMaxProcs                               *int                    `json:"goMaxProcs,omitempty"`
	GoMemoryLimitMB                          *int                    `json:"goMemoryLimitMB,omitempty"`
	HealthEnabled                            *bool                   `json:"healthEnabled,omitempty"`
	HealthHost                               *string                 `json:"healthHost,omitempty"`
	HealthPort                               *int                    `json:"healthPort,omitempty"`
	HealthTimeoutOverrides                   []HealthTimeoutOverride `json:"healthTimeoutOverrides,omitempty"`
	InterfaceExclude                         string                  `json:"interfaceExclude,omitempty"`
	InterfacePrefix                          string                  `json:"interfacePrefix,omitempty"` // beginnings of the names of workload interfaces, separated by commas, such as cali,tap,vnet: cali unless set
	InterfaceRefreshInterval                 *Duration               `json:"interfaceRefreshInterval,omitempty"`
	IPForwarding                             string                  `json:"ipForwarding,omitempty"`
	IPIPEnabled                              *bool                   `json:"ipipEnabled,omitempty"`
	IPIPMTU                                  *int                    `json:"ipipMTU,omitempty"`
	IPSetsRefreshInterval                    *Duration               `json:"ipsetsRefreshInterval,omitempty"`
	IptablesBackend                          *string                 `json:"iptablesBackend,omitempty"`
	IptablesFilterAllowAction                string                  `json:"iptablesFilterAllowAction,omitempty"`
	IptablesFilterDenyAction                 string                  `json:"iptablesFilterDenyAction,omitempty"`
	IptablesLockProbeInterval                *Duration               `json:"iptablesLockProbeInterval,omitempty"`
	IptablesMangleAllowAction                string                  `json:"iptablesMangleAllowAction,omitempty"`
	IptablesMarkMask                         *int64                  `json:"iptablesMarkMask,omitempty"`
	IptablesNATOutgoingInterfaceFilter       string                  `json:"iptablesNATOutgoingInterfaceFilter,omitempty"`
	IptablesPostWriteCheckInterval           *Duration               `json:"iptablesPostWriteCheckInterval,omitempty"`
	IptablesRefreshInterval                  *Duration               `json:"iptablesRefreshInterval,omitempty"`
	IPv4ElevatedRoutePriority                *int                    `json:"ipv4ElevatedRoutePriority,omitempty"`
	IPv4NormalRoutePriority                  *int                    `json:"ipv4NormalRoutePriority,omitempty"` // metric of IPv4 routes to workloads of the node in the kernel: 0 unless set
	IPv6ElevatedRoutePriority                *int                    `json:"ipv6ElevatedRoutePriority,omitempty"`
	IPv6NormalRoutePriority                  *int                    `json:"ipv6NormalRoutePriority,omitempty"` // metric of IPv6 routes to workloads of the node in the kernel: 1024 unless set
	IPv6Support                              *bool                   `json:"ipv6Support,omitempty"`
	IstioAmbientMode                         *string                 `json:"istioAmbientMode,omitempty"`
	IstioDSCPMark                            *DSCP                   `json:"istioDSCPMark,omitempty"`
	KubeNodePortRanges                       *[]Port                 `json:"kubeNodePortRanges,omitempty"`
	LiveMigrationRouteConvergenceTime        *Duration               `json:"liveMigrationRouteConvergenceTime,omitempty"`
	LocalSubnetL2Reachability                *string                 `json:"localSubnetL2Reachability,omitempty"`
	LocalSubnetL2ReachabilityRefreshInterval *Duration               `json:"localSubnetL2ReachabilityRefreshInterval,omitempty"`
	LogActionRateLimit                       *string                 `json:"logActionRateLimit,omitempty"`
	LogActionRateLimitBurst                  *int                    `json:"logActionRateLimitBurst,omitempty"`
	LogDebugFilenameRegex                    string                  `json:"logDebugFilenameRegex,omitempty"`
	LogFilePath                              string                  `json:"logFilePath,omitempty"`
	LogPrefix                                string                  `json:"logPrefix,omitempty"`
	LogSeverityFile                          string                  `json:"logSeverityFile,omitempty"`
	LogSeverityScreen                        string                  `json:"logSeverityScreen,omitempty"` // lowest severity in the agent's own log: Info unless set
	LogSeveritySys                           string                  `json:"logSeveritySys,omitempty"`
	MaxIpsetSize                             *int                    `json:"maxIpsetSize,omitempty"`
	MetadataAddr                             string                  `json:"metadataAddr,omitempty"`
	MetadataPort                             *int                    `json:"metadataPort,omitempty"`
	MTUIfacePattern                          string                  `json:"mtuIfacePattern,omitempty"`
	NATOutgoingAddress                       string                  `json:"natOutgoingAddress,omitempty"`
	NATOutgoingExclusions                    *string                 `json:"natOutgoingExclusions,omitempty"`
	NATPortRange                             *Port                   `json:"natPortRange,omitempty"`
	NetlinkTimeout                           *Duration               `json:"netlinkTimeout,omitempty"`
	NFTablesFilterAllowAction                string                  `json:"nftablesFilterAllowAction,omitempty"`
	NFTablesFilterDenyAction                 string                  `json:"nftablesFilterDenyAction,omitempty"`
	NFTablesFlowTableDataIfacePattern        string                  `json:"nftablesFlowTableDataIfacePattern,omitempty"`
	NFTablesFlowTableOffload                 *string                 `json:"nftablesFlowTableOffload,omitempty"`
	NFTablesMangleAllowAction                string                  `json:"nftablesMangleAllowAction,omitempty"`
	NFTablesMarkMask                         *int64                  `json:"nftablesMarkMask,omitempty"`
	NFTablesMode                             *string                 `json:"nftablesMode,omitempty"`
	NFTablesRefreshInterval                  *Duration               `json:"nftablesRefreshInterval,omitempty"`
	NodeSelector                             string                  `json:"nodeSelector,omitempty"` // selects the nodes that the object is for; not allowed in the objects default and node.NAME
	OpenstackRegion                          string                  `json:"openstackRegion,omitempty"`
	PolicySyncPathPrefix                     string                  `json:"policySyncPathPrefix,omitempty"`
	ProgramClusterRoutes                     *string                 `json:"programClusterRoutes,omitempty"` // Enabled or EnabledNoEncapOnly: the agent makes routes to the blocks of nodes in its own network, without BGP
	PrometheusGoMetricsEnabled               *bool                   `json:"prometheusGoMetricsEnabled,omitempty"`
	PrometheusMetricsCAFile                  string                  `json:"prometheusMetricsCAFile,omitempty"`
	PrometheusMetricsCertFile                string                  `json:"prometheusMetricsCertFile,omitempty"`
	PrometheusMetricsClientAuth              *string                 `json:"prometheusMetricsClientAuth,omitempty"`
	PrometheusMetricsEnabled                 *bool                   `json:"prometheusMetricsEnabled,omitempty"`
	PrometheusMetricsHost                    string                  `json:"prometheusMetricsHost,omitempty"`
	PrometheusMetricsKeyFile                 string                  `json:"prometheusMetricsKeyFile,omitempty"`
	PrometheusMetricsPort                    *int                    `json:"prometheusMetricsPort,omitempty"`
	PrometheusProcessMetricsEnabled          *bool                   `json:"prometheusProcessMetricsEnabled,omitempty"`
	PrometheusWireGuardMetricsEnabled        *bool                   `json:"prometheusWireGuardMetricsEnabled,omitempty"`
	RemoveExternalRoutes                     *bool                   `json:"removeExternalRoutes,omitempty"`
	ReportingInterval                        *Duration               `json:"reportingInterval,omitempty"`
	ReportingTTL                             *Duration               `json:"reportingTTL,omitempty"`
	RequireMTUFile                           *bool                   `json:"requireMTUFile,omitempty"`
	RouteRefreshInterval                     *Duration               `json:"routeRefreshInterval,omitempty"`
	RouteSource                              string                  `json:"routeSource,omitempty"`
	RouteSyncDisabled                        *bool                   `json:"routeSyncDisabled,omitempty"`
	RouteTableRange                          *RouteTableRange        `json:"routeTableRange,omitempty"`
	RouteTableRanges                         *[]RouteTableRange      `json:"routeTableRanges,omitempty"`
	ServiceLoopPrevention                    string                  `json:"serviceLoopPrevention,omitempty"`
	SidecarAccelerationEnabled               *bool                   `json:"sidecarAccelerationEnabled,omitempty"`
	UsageReportingEnabled                    *bool                   `json:"usageReportingEnabled,omitempty"`
	UsageReportingInitialDelay               *Duration               `json:"usageReportingInitialDelay,omitempty"`
	UsageReportingInterval                   *Duration               `json:"usageReportingInterval,omitempty"`
	UseInternalDataplaneDriver               *bool                   `json:"useInternalDataplaneDriver,omitempty"`
	VXLANEnabled                             *bool                   `json:"vxlanEnabled,omitempty"`
	VXLANMTU                                 *int                    `json:"vxlanMTU,omitempty"`
	VXLANMTUV6                               *int                    `json:"vxlanMTUV6,omitempty"`
	VXLANPort                                *int                    `json:"vxlanPort,omitempty"`
	VXLANVNI                                 *int                    `json:"vxlanVNI,omitempty"`
	WindowsManageFirewallRules               *string                 `json:"windowsManageFirewallRules,omitempty"`
	WireguardEnabled                         *bool                   `json:"wireguardEnabled,omitempty"`
	WireguardEnabledV6                       *bool                   `json:"wireguardEnabledV6,omitempty"`
	WireguardHostEncryptionEnabled           *bool                   `json:"wireguardHostEncryptionEnabled,omitempty"`
	WireguardInterfaceName                   string                  `json:"wireguardInterfaceName,omitempty"`
	WireguardInterfaceNameV6                 string                  `json:"wireguardInterfaceNameV6,omitempty"`
	WireguardKeepAlive                       *Duration               `json:"wireguardKeepAlive,omitempty"`
	WireguardListeningPort                   *int                    `json:"wireguardListeningPort,omitempty"`
	WireguardListeningPortV6                 *int                    `json:"wireguardListeningPortV6,omitempty"`
	WireguardMTU                             *int                    `json:"wireguardMTU,omitempty"`
	WireguardMTUV6                           *int                    `json:"wireguardMTUV6,omitempty"`
	WireguardRoutingRulePriority             *int                    `json:"wireguardRoutingRulePriority,omitempty"`
	WireguardThreadingEnabled                *bool                   `json:"wireguardThreadingEnabled,omitempty"`
	WorkloadDHCP                             *string                 `json:"workloadDHCP,omitempty"`           // Enabled or Disabled: the agent answers DHCP and router solicitations of workloads behind routed interfaces; Enabled unless set; a field of Margay, which Calico's agents ignore
	WorkloadDNSServers                       *[]string               `json:"workloadDNSServers,omitempty"`     // addresses of the resolvers that the agent gives to workloads by DHCP: those of the host's resolv.conf unless set; an empty list: none; a field of Margay, which Calico's agents ignore
	WorkloadSourceSpoofing                   string                  `json:"workloadSourceSpoofing,omitempty"` // Disabled or Any: whether allowSpoofedSourcePrefixes of WorkloadEndpoints are in force; Disabled unless set
	XDPEnabled                               *bool                   `json:"xdpEnabled,omitempty"`
	XDPRefreshInterval                       *Duration               `json:"xdpRefreshInterval,omitempty"`
}

// ProtoPort is a failsafe port. If Net is given, only remote addresses inside of it may use the port.
type ProtoPort struct {
	Protocol string `json:"protocol,omitempty"` // tcp or udp, in upper or lower case: tcp unless set
	Port     uint16 `json:"port"`               // port number
	Net      string `json:"net,omitempty"`      // CIDR of remote addresses: every address unless set
}

// HealthTimeoutOverride sets the time after which a part of Calico's agent counts as unhealthy. It has no effect in Margay.
type HealthTimeoutOverride struct {
	Name    string   `json:"name"` // a part of Calico's agent
	Timeout Duration `json:"timeout"`
}

// RouteTableRange is a range of routing tables of the kernel, both ends included. It has no effect in Margay.
type RouteTableRange struct {
	Min int `json:"min"` // number of the first table
	Max int `json:"max"` // number of the last table
}
