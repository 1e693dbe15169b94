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

// each calls f with every label that there is, once.
func (l labels) each(f func(name, value string)) {
	if w := l.workload; w != nil {
		f(labelNamespace, w.namespace)
		f(labelOrchestrator, w.orchestrator)
		if w.serviceAccount != "" {
			f(labelServiceAccount, w.serviceAccount)
		}
	}
	for name, value := range l.own {
		if l.workload == nil || !(builtIn(name) || reserved(name)) {
			f(name, value)
		}
	}
	for i, p := range l.profiles {
		for name, value := range p {
			if _, own := l.before(name); !own && !inAny(l.profiles[:i], name) {
				f(name, value)
			}
		}
	}
}

func inAny(all []map[string]string, name string) bool {
	for _, m := range all {
		if _, ok := m[name]; ok {
			return true
		}
	}
	return false
}

func builtIn(name string) bool {
	return name == labelNamespace || name == labelOrchestrator || name == labelServiceAccount
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
