package api

import (
	"fmt"
	"strings"
)

// WorkloadEndpointName returns the name that a workload endpoint must have: its node, orchestrator, workload and endpoint, joined
// by dashes. A dash inside of one of them is doubled. The error names a missing or invalid part.
func WorkloadEndpointName(spec WorkloadEndpointSpec) (string, error) {
	parts := []struct{ field, text string }{{"node", spec.Node}, {"orchestrator", spec.Orchestrator}}
	switch spec.Orchestrator {
	case "k8s":
		parts = append(parts, struct{ field, text string }{"pod", spec.Pod})
	case "cni":
		parts = append(parts, struct{ field, text string }{"containerID", spec.ContainerID})
	case "libnetwork":
		parts = append(parts, struct{ field, text string }{"workload", "libnetwork"})
	default:
		parts = append(parts, struct{ field, text string }{"workload", spec.Workload})
	}
	parts = append(parts, struct{ field, text string }{"endpoint", spec.Endpoint})
	var name []string
	for _, p := range parts {
		if p.text == "" {
			return "", fmt.Errorf("want a name made of spec.node, orchestrator, workload and endpoint: spec.%s is missing", p.field)
		}
		if strings.HasPrefix(p.text, "-") || strings.HasSuffix(p.text, "-") {
			return "", fmt.Errorf("spec.%s is %q: it must not begin or end with a dash", p.field, p.text)
		}
		name = append(name, strings.ReplaceAll(p.text, "-", "--"))
	}
	return strings.Join(name, "-"), nil
}

// isLabel says whether text is a DNS label: a-z, 0-9 and dashes inside.
func isLabel(text string) bool {
	if text == "" || text[0] == '-' || text[len(text)-1] == '-' {
		return false
	}
	for _, c := range []byte(text) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// isName says whether text is a DNS name: at most so many labels joined by dots, at most 253 characters.
func isName(text string, labels int) bool {
	parts := strings.Split(text, ".")
	for _, p := range parts {
		if !isLabel(p) {
			return false
		}
	}
	return len(text) <= 253 && len(parts) <= labels
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isWord says whether text is letters, digits and these marks, at most longest bytes, with no mark at either end.
func isWord(text, marks string, longest int) bool {
	if text == "" || len(text) > longest || !isAlphanumeric(text[0]) || !isAlphanumeric(text[len(text)-1]) {
		return false
	}
	return hasOnly(text, marks)
}

// hasOnly says whether text has only letters, digits and these marks.
func hasOnly(text, marks string) bool {
	for _, c := range []byte(text) {
		if !isAlphanumeric(c) && strings.IndexByte(marks, c) < 0 {
			return false
		}
	}
	return true
}

// isQualified says whether text is the key of a label: a name of at most 63 characters, with or without DOMAIN/ before it.
func isQualified(key string) bool {
	domain, name, ok := strings.Cut(key, "/")
	if !ok {
		return isWord(key, "-_.", 63)
	}
	return isName(domain, 127) && isWord(name, "-_.", 63)
}

func isLabelValue(value string) bool { return value == "" || isWord(value, "-_.", 63) }

func isInterface(name string) bool {
	return name != "" && len(name) <= 15 && hasOnly(name, "_.-")
}

// CanBeginInterface says whether the name of an interface can begin with text. The kernel takes up to 15 bytes (dev_valid_name in
// net/core/dev.c); signs that have a meaning in patterns are left out.
func CanBeginInterface(text string) bool {
	return text != "" && len(text) <= 15 && hasOnly(text, "_.-@")
}

// isPortName says whether text may name a port. The rules are those of Kubernetes (IANA service names, RFC 6335).
func isPortName(text string) bool {
	return len(text) <= 15 && isLabel(text) && !strings.Contains(text, "--") &&
		strings.IndexFunc(text, func(r rune) bool { return 'a' <= r && r <= 'z' }) >= 0
}
