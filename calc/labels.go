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

	profileOfNamespace = "kns."
)

// labels are what selectors see of a thing: its own labels, with those that its kind brings, and then those of its
// profiles, the first profile that has one.
//
// There are many things, and most of their labels are alike, so labels are pointers that an index shares.
type labels struct {
	own      []*label
	profiles []map[string]string
}

type label struct{ name, value string }

func labelsOf(own map[string]string) labels {
	all := make([]label, 0, len(own))
	for name, value := range own {
		all = append(all, label{name, value})
	}
	return pointing(all)
}

// labelsOfWorkload are a workload endpoint's labels with those that the dialect adds, without those that it reserves.
func labelsOfWorkload(w *api.WorkloadEndpoint) labels {
	all := make([]label, 0, len(w.Labels)+3)
	all = append(all, label{labelNamespace, w.Namespace}, label{labelOrchestrator, w.Spec.Orchestrator})
	if w.Spec.ServiceAccountName != "" {
		all = append(all, label{labelServiceAccount, w.Spec.ServiceAccountName})
	}
	for name, value := range w.Labels {
		if !reserved(name) {
			all = append(all, label{name, value})
		}
	}
	return pointing(all)
}

// labelsOfNetworkSet are a network set's labels with that of its namespace; the namespace's own come through its profile.
func labelsOfNetworkSet(s *api.NetworkSet) labels {
	all := make([]label, 0, len(s.Labels)+1)
	all = append(all, label{labelNamespace, s.Namespace})
	for name, value := range s.Labels {
		if name != labelNamespace {
			all = append(all, label{name, value})
		}
	}
	return pointing(all)
}

func pointing(all []label) labels {
	l := labels{own: make([]*label, len(all))}
	for i := range all {
		l.own[i] = &all[i]
	}
	return l
}

// reserved labels of a workload endpoint come from its other fields or from profiles, and from nowhere else.
func reserved(name string) bool {
	return name == labelNamespace || name == labelOrchestrator || name == labelServiceAccount ||
		strings.HasPrefix(name, prefixNamespace) || strings.HasPrefix(name, prefixServiceAccount)
}

// Get makes labels a selector.Labels.
func (l labels) Get(name string) (string, bool) {
	for _, own := range l.own {
		if own.name == name {
			return own.value, true
		}
	}
	for _, p := range l.profiles {
		if value, ok := p[name]; ok {
			return value, true
		}
	}
	return "", false
}

// each calls f with every label that there is, once.
func (l labels) each(f func(name, value string)) {
	for _, own := range l.own {
		f(own.name, own.value)
	}
	for i, p := range l.profiles {
		before := labels{own: l.own, profiles: l.profiles[:i]}
		for name, value := range p {
			if _, has := before.Get(name); !has {
				f(name, value)
			}
		}
	}
}
