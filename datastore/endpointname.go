package datastore

import (
	"strings"

	"github.com/margay-project/margay/api"
)

// endpointName is the name that a WorkloadEndpoint must have: what identifies it, joined by dashes, with the dashes inside
// of a segment doubled.
func endpointName(o *api.WorkloadEndpoint) (string, error) {
	spec := o.Spec
	type segment struct{ field, value string }
	segments := []segment{{"Spec.Node", spec.Node}, {"Spec.Orchestrator", spec.Orchestrator}}
	switch spec.Orchestrator {
	case "k8s":
		segments = append(segments, segment{"Spec.Pod", spec.Pod})
	case "cni":
		segments = append(segments, segment{"Spec.ContainerID", spec.ContainerID})
	case "libnetwork":
		segments = append(segments, segment{"Spec.Orchestrator", spec.Orchestrator})
	default:
		segments = append(segments, segment{"Spec.Workload", spec.Workload})
	}
	segments = append(segments, segment{"Spec.Endpoint", spec.Endpoint})
	var names []string
	for _, s := range segments {
		switch {
		case s.value == "":
			return "", FieldError{Field: s.field, Reason: "is required to name a WorkloadEndpoint"}
		case strings.HasPrefix(s.value, "-") || strings.HasSuffix(s.value, "-"):
			return "", FieldError{Field: s.field, Value: s.value, Reason: "must not begin or end with a dash"}
		}
		names = append(names, strings.ReplaceAll(s.value, "-", "--"))
	}
	return strings.Join(names, "-"), nil
}
