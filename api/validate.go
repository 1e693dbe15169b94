package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/margay-project/margay/api/selector"
)

// FieldError is an invalid value of a field.
type FieldError struct {
	Path   string // of the field in a manifest, for example spec.ports[0].name
	Value  string // at most 200 bytes of it
	Reason string // why it is invalid, and which values are valid
}

func (e FieldError) Error() string { return fmt.Sprintf("%s = '%s' (%s)", e.Path, e.Value, e.Reason) }

// Errors holds all invalid values of one object. Its text is calicoctl's.
type Errors []FieldError

func (e Errors) Error() string {
	if len(e) == 1 {
		return "error with field " + e[0].Error()
	}
	lines := []string{"error with the following fields:"}
	for _, f := range e {
		lines = append(lines, "-  "+f.Error())
	}
	return strings.Join(lines, "\n")
}

// Validate checks an object. Its error is of type Errors. It is for objects that are about to be stored, after Default, and for
// objects that other programs have stored.
func Validate(o Object) error {
	var c checker
	switch o := o.(type) {
	case *Tier:
		c.tier(o)
	case *GlobalNetworkPolicy:
		c.name(o.Name, 2)
		c.policySpec(&o.Spec, false)
	case *NetworkPolicy:
		c.networkPolicy(o.Name, o.Spec)
	case *StagedGlobalNetworkPolicy:
		c.stagedGlobal(o)
	case *StagedNetworkPolicy:
		c.stagedNamespaced(o)
	case *StagedKubernetesNetworkPolicy:
		c.stagedKubernetes(o)
	case *Profile:
		c.name(o.Name, 127)
		c.rules("spec.ingress", o.Spec.Ingress, rulePlace{})
		c.rules("spec.egress", o.Spec.Egress, rulePlace{})
		c.labels("spec.labelsToApply", o.Spec.LabelsToApply)
	case *GlobalNetworkSet:
		c.networkSet(&o.Metadata, o.Spec)
	case *NetworkSet:
		c.networkSet(&o.Metadata, o.Spec)
	case *HostEndpoint:
		c.hostEndpoint(o)
	case *WorkloadEndpoint:
		c.workloadEndpoint(o)
	case *IPPool:
		c.pool(o)
	case *Node:
		c.node(o)
	case *BGPConfiguration:
		c.bgpConfiguration(o)
	case *BGPFilter:
		c.bgpFilter(o)
	case *BGPPeer:
		c.bgpPeer(o)
	case *FelixConfiguration:
		c.felixConfiguration(o)
	case *ClusterInformation:
		c.onlyDefault(o.Name)
	case *IPReservation:
		c.ipReservation(o)
	case *IPAMConfiguration:
		c.ipamConfiguration(o)
	case *CalicoNodeStatus:
		c.calicoNodeStatus(o)
	case *KubeControllersConfiguration:
		c.kubeControllers(o)
	default: // internal kinds have no fields that people write
		return nil
	}
	c.metadata(o)
	if len(c.errors) == 0 {
		return nil
	}
	return c.errors
}

// checker collects the invalid values of one object.
type checker struct{ errors Errors }

// add notes an invalid value. The error shows a struct, list or map as JSON.
func (c *checker) add(path string, value any, reason string, args ...any) {
	shown := shownValue(value)
	if len(shown) > 200 {
		shown = strings.ToValidUTF8(shown[:200], "") + "..."
	}
	c.errors = append(c.errors, FieldError{path, shown, fmt.Sprintf(reason, args...)})
}

func shownValue(value any) string {
	v := reflect.Indirect(reflect.ValueOf(value))
	if _, named := value.(fmt.Stringer); named || !v.IsValid() {
		return fmt.Sprint(value)
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		if text, err := json.Marshal(value); err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(v.Interface())
}

func (c *checker) metadata(o Object) {
	m := o.Meta()
	if m.GenerateName != "" {
		c.add("metadata.generateName", m.GenerateName, "must be left out: give the object a name")
	}
	kind := kindsByName()[typeName(o)]
	switch {
	case !kind.Namespaced && m.Namespace != "":
		c.add("metadata.namespace", m.Namespace, "%s has no namespace: remove it", kind.Name)
	case kind.Name == KindWorkloadEndpoint && !isWord(m.Namespace, "-_.", 63): // Default copies it into a label
		c.add("metadata.namespace", m.Namespace, "want letters, digits, '-', '_' and '.' inside, at most 63 characters")
	case kind.Namespaced && m.Namespace != "" && !isWord(m.Namespace, "-_.", 253): // datastores hold names that Kubernetes would refuse
		c.add("metadata.namespace", m.Namespace, "want letters, digits, '-', '_' and '.' inside, at most 253 characters")
	}
	c.labels("metadata.labels", m.Labels)
	c.annotations("metadata.annotations", m.Annotations)
}

// name checks metadata.name: at most so many labels, joined by dots.
func (c *checker) name(name string, labels int) {
	if isName(name, labels) {
		return
	}
	reason := "want a-z, 0-9, dashes and dots inside, at most 253 characters"
	switch labels {
	case 1:
		reason = "want a-z, 0-9 and dashes inside"
	case 2:
		reason = "want a-z, 0-9, dashes inside and at most one dot, at most 253 characters"
	}
	c.add("metadata.name", name, "%s", reason)
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		if !isQualified(key) {
			c.add(path, key, "want a label's name: letters, digits, '-', '_' and '.' inside, at most 63, or DOMAIN/NAME")
		}
		if !isLabelValue(labels[key]) {
			c.add(path+"."+key, labels[key], "want letters, digits, '-', '_' and '.' inside, at most 63 characters")
		}
	}
}

func (c *checker) annotations(path string, annotations map[string]string) {
	size := 0
	for _, key := range sortedKeys(annotations) {
		if !isQualified(strings.ToLower(key)) {
			c.add(path, key, "want an annotation's name: letters, digits, '-', '_' and '.' inside, at most 63, or DOMAIN/NAME")
		}
		size += len(key) + len(annotations[key])
	}
	if size > 256<<10 {
		c.add(path, fmt.Sprintf("%d bytes", size), "want at most 256 KiB in all")
	}
}

// selector checks a selector: its syntax, and its length of at most 1024 characters.
func (c *checker) selector(path, text string) {
	if n := utf8.RuneCountInString(text); n > 1024 {
		c.add(path, text, "%d characters: want at most 1024", n)
		return
	}
	c.longSelector(path, text)
}

func (c *checker) longSelector(path, text string) {
	var wrong *selector.Error
	if _, err := selector.Parse(text); errors.As(err, &wrong) {
		c.add(path, text, "not a selector: at column %d want %s", wrong.Column, wrong.Want)
	}
}

// noGlobal checks that a selector does not use global(). It searches the text, values included, because Calico does the same.
func (c *checker) noGlobal(path, text string) {
	if strings.Contains(text, "global(") {
		c.add(path, text, "global() is only for the namespaceSelector of a rule")
	}
}

// globalAlone checks that a selector with global() has nothing else.
func (c *checker) globalAlone(path, text string) {
	rest, found := strings.CutPrefix(strings.Trim(text, " \t"), "global(")
	if strings.Contains(text, "global(") && !(found && strings.Trim(rest, " \t") == ")") {
		c.add(path, text, "global() must stand alone")
	}
}

// oneOf checks that a value is one of some words, or empty.
func (c *checker) oneOf(path, value string, words ...string) {
	for _, w := range words {
		if value == w {
			return
		}
	}
	if value != "" {
		c.add(path, value, "want one of %s", strings.Join(words, ", "))
	}
}

func (c *checker) between(path string, value, low, high int64) {
	if value < low || value > high {
		c.add(path, value, "want %d to %d", low, high)
	}
}

// unique checks that no value occurs twice in a list.
func unique[T comparable](c *checker, path string, values []T) {
	seen := map[T]bool{}
	for i, v := range values {
		if seen[v] {
			c.add(at(path, i), v, "given twice: remove one")
		}
		seen[v] = true
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// inOrder iterates over a map in the order of its keys, so that errors have the same order each time.
func inOrder[T any](m map[string]T) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
