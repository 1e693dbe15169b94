package api

import (
	"math"
	"regexp"
	"time"
)

// KubeControllersConfiguration configures Calico's controllers in a Kubernetes cluster. There is one, named default. Margay keeps
// it; it has no effect in Margay.
type KubeControllersConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     KubeControllersConfigurationSpec   `json:"spec"`
	Status   KubeControllersConfigurationStatus `json:"status"`
}

// KubeControllersConfigurationSpec holds the settings of Calico's controllers.
type KubeControllersConfigurationSpec struct {
	LogSeverityScreen      string          `json:"logSeverityScreen,omitempty"`      // lowest severity that is logged
	HealthChecks           string          `json:"healthChecks,omitempty"`           // Enabled, Disabled
	EtcdV3CompactionPeriod *Duration       `json:"etcdV3CompactionPeriod,omitempty"` // time between two compactions of etcd; 0: never
	PrometheusMetricsPort  *int            `json:"prometheusMetricsPort,omitempty"`  // port for metrics; 0: none
	Controllers            KubeControllers `json:"controllers"`
	DebugProfilePort       *int32          `json:"debugProfilePort,omitempty"`
}

// KubeControllers holds the settings of each controller. A controller that is left out does not run.
type KubeControllers struct {
	Node             *KubeNodeController         `json:"node,omitempty"`
	Policy           *KubeReconciler             `json:"policy,omitempty"`
	WorkloadEndpoint *KubeReconciler             `json:"workloadEndpoint,omitempty"`
	ServiceAccount   *KubeReconciler             `json:"serviceAccount,omitempty"`
	Namespace        *KubeReconciler             `json:"namespace,omitempty"`
	LoadBalancer     *KubeLoadBalancerController `json:"loadBalancer,omitempty"`
	PolicyMigration  *KubePolicyMigration        `json:"policyMigration,omitempty"` // the name of migration in early versions
	Migration        *KubeMigration              `json:"migration,omitempty"`
}

// KubeReconciler holds the settings of a controller that compares Kubernetes with the datastore periodically.
type KubeReconciler struct {
	ReconcilerPeriod *Duration `json:"reconcilerPeriod,omitempty"`
}

// KubeNodeController holds the settings of the controller that follows the nodes of Kubernetes.
type KubeNodeController struct {
	ReconcilerPeriod *Duration         `json:"reconcilerPeriod,omitempty"`
	SyncLabels       string            `json:"syncLabels,omitempty"` // Enabled, Disabled
	HostEndpoint     *KubeHostEndpoint `json:"hostEndpoint,omitempty"`
	LeakGracePeriod  *Duration         `json:"leakGracePeriod,omitempty"`
}

// KubeHostEndpoint says which host endpoints the node controller creates.
type KubeHostEndpoint struct {
	AutoCreate                string                     `json:"autoCreate,omitempty"`                // Enabled, Disabled
	CreateDefaultHostEndpoint string                     `json:"createDefaultHostEndpoint,omitempty"` // Enabled, Disabled
	Templates                 []KubeHostEndpointTemplate `json:"templates,omitempty"`
}

// KubeHostEndpointTemplate describes host endpoints that the node controller creates for the nodes it selects.
type KubeHostEndpointTemplate struct {
	GenerateName     string            `json:"generateName,omitempty"`
	InterfaceCIDRs   []string          `json:"interfaceCIDRs,omitempty"`
	InterfacePattern string            `json:"interfacePattern,omitempty"` // a regular expression
	Labels           map[string]string `json:"labels,omitempty"`
	Annotations      map[string]string `json:"annotations,omitempty"`
	NodeSelector     string            `json:"nodeSelector,omitempty"`
}

// KubeLoadBalancerController says which Kubernetes services get addresses.
type KubeLoadBalancerController struct {
	AssignIPs string `json:"assignIPs,omitempty"` // AllServices, RequestedServicesOnly
}

// KubePolicyMigration switches the migration of policy names, under its name in early versions.
type KubePolicyMigration struct {
	Enabled string `json:"enabled,omitempty"` // Enabled, Disabled
}

// KubeMigration switches the migration of policy names.
type KubeMigration struct {
	PolicyNameMigrator string `json:"policyNameMigrator,omitempty"` // Enabled, Disabled
}

// KubeControllersConfigurationStatus is written by the controllers: the settings that they use.
type KubeControllersConfigurationStatus struct {
	RunningConfig   *KubeControllersConfigurationSpec `json:"runningConfig,omitempty"`
	EnvironmentVars map[string]string                 `json:"environmentVars,omitempty"`
}

func (k *KubeControllersConfiguration) setDefaults() {
	s := &k.Spec
	fill(&s.HealthChecks, "Enabled")
	fillPointer(&s.PrometheusMetricsPort, 9094)
	if n := s.Controllers.Node; n != nil {
		fillPointer(&n.LeakGracePeriod, Duration{15 * time.Minute})
	}
	if l := s.Controllers.LoadBalancer; l != nil {
		fill(&l.AssignIPs, "AllServices")
	}
	if m := s.Controllers.PolicyMigration; m != nil {
		fill(&m.Enabled, "Enabled")
	}
	if m := s.Controllers.Migration; m != nil {
		fill(&m.PolicyNameMigrator, "Enabled")
	}
}

func (c *checker) kubeControllers(k *KubeControllersConfiguration) {
	s := &k.Spec
	c.onlyDefault(k.Name)
	c.oneOf("spec.logSeverityScreen", s.LogSeverityScreen, "None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic")
	c.oneOf("spec.healthChecks", s.HealthChecks, "Enabled", "Disabled")
	if p := s.PrometheusMetricsPort; p != nil {
		c.between("spec.prometheusMetricsPort", int64(*p), 0, math.MaxUint16)
	}
	if p := s.DebugProfilePort; p != nil {
		c.between("spec.debugProfilePort", int64(*p), 0, math.MaxUint16)
	}
	if l := s.Controllers.LoadBalancer; l != nil {
		c.oneOf("spec.controllers.loadBalancer.assignIPs", l.AssignIPs, "AllServices", "RequestedServicesOnly")
	}
	if m := s.Controllers.PolicyMigration; m != nil {
		c.oneOf("spec.controllers.policyMigration.enabled", m.Enabled, "Enabled", "Disabled")
	}
	if m := s.Controllers.Migration; m != nil {
		c.oneOf("spec.controllers.migration.policyNameMigrator", m.PolicyNameMigrator, "Enabled", "Disabled")
	}
	n := s.Controllers.Node
	if n == nil {
		return
	}
	c.oneOf("spec.controllers.node.syncLabels", n.SyncLabels, "Enabled", "Disabled")
	if h := n.HostEndpoint; h != nil {
		c.kubeHostEndpoint("spec.controllers.node.hostEndpoint", h)
	}
}

func (c *checker) kubeHostEndpoint(path string, h *KubeHostEndpoint) {
	c.oneOf(path+".autoCreate", h.AutoCreate, "Enabled", "Disabled")
	c.oneOf(path+".createDefaultHostEndpoint", h.CreateDefaultHostEndpoint, "Enabled", "Disabled")
	seen := map[string]bool{}
	for i, t := range h.Templates {
		path := at(path+".templates", i)
		switch {
		case t.GenerateName == "":
			c.add(path+".generateName", "", "missing: give the template a name")
		case !isName(t.GenerateName, 127):
			c.add(path+".generateName", t.GenerateName, "want a-z, 0-9, dashes and dots inside, at most 253 characters")
		case seen[t.GenerateName]:
			c.add(path+".generateName", t.GenerateName, "given twice: every template needs a name of its own")
		}
		seen[t.GenerateName] = true
		if len(t.InterfaceCIDRs) == 0 && t.InterfacePattern == "" {
			c.add(path+".interfaceCIDRs", "", "missing: want interfaceCIDRs or interfacePattern")
		}
		for j, cidr := range t.InterfaceCIDRs {
			c.net(at(path+".interfaceCIDRs", j), cidr, 0)
		}
		c.pattern(path+".interfacePattern", t.InterfacePattern)
		c.labels(path+".labels", t.Labels)
		c.annotations(path+".annotations", t.Annotations)
		c.selector(path+".nodeSelector", t.NodeSelector)
	}
}

func (c *checker) pattern(path, text string) {
	if _, err := regexp.Compile(text); err != nil {
		c.add(path, text, "want a regular expression: %v", err)
	}
}
