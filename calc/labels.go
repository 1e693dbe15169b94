package calc

import (
	"strings"

	"github.com/margay-project/margay/api"
)

// Labels that the datastore's dialect adds to a workload endpoint, and prefixes that only profiles may use: namespaces'
// labels arrive through profiles kns.NAMESPACE, service accounts' through ksa.NAMESPACE.NAME.
const (
	labelNamespace      = "projectcalico.org/namespace"
	labelOrchestrator   = "projectcalico.org/orchestrator"
	labelServiceAccount = "projectcalico.org/serviceaccount"

	prefixNamespace      = "pcns."
	prefixServiceAccount = "pcsa."
)

// labels are what selectors see of a thing: its own labels, those that its kind brings, and then those of its
// profiles, the first profile that has one.
type labels struct {
	own      map[string]string
	workload *workloadLabels // nil unless the thing is a workload endpoint
	profiles []map[string]string
}

type workloadLabels struct {
	namespace, orchestrator, serviceAccount string
}

// Get makes labels a selector.Labels.
func (l labels) Get(name string) (string, bool) {
	if value, ok := l.before(name); ok {
		return value, true
	}
	for _, p := range l.profiles {
		if value, ok := p[name]; ok {
			return value, true
		}
	}
	return "", false
}

// before is a label that no profile can override.
func (l labels) before(name string) (string, bool) {
	if w := l.workload; w != nil {
		switch name {
		case labelNamespace:
			return w.namespace, true
		case labelOrchestrator:
			return w.orchestrator, true
		case labelServiceAccount:
			return w.serviceAccount, w.serviceAccount != ""
		}
		if reserved(name) {
			return "", false
		}
	}
	value, ok := l.own[name]
	return value, ok
}

// names calls f with each label's name, some perhaps twice.
func (l labels) names(f func(name string)) {
	if l.workload != nil {
		f(labelNamespace)
		f(labelOrchestrator)
		f(labelServiceAccount)
	}
	for name := range l.own {
		f(name)
	}
	for _, p := range l.profiles {
		for name := range p {
			f(name)
		}
	}
}

// reserved labels count only when a profile gives them.
func reserved(name string) bool {
	return strings.HasPrefix(name, prefixNamespace) || strings.HasPrefix(name, prefixServiceAccount)
}

func labelsOfWorkload(w *api.WorkloadEndpoint) labels {
	return labels{own: w.Labels, workload: &workloadLabels{
		namespace:      w.Namespace,
		orchestrator:   w.Spec.Orchestrator,
		serviceAccount: w.Spec.ServiceAccountName,
	}}
}
