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

// FieldError is a field with a value that is not valid.
type FieldError struct {
	Path   string
	Value  string
	Reason string // what is wrong, and what is valid
}

func (e FieldError) Error() string { return fmt.Sprintf("%s = '%s' (%s)", e.Path, e.Value, e.Reason) }

// Errors are all the fields of one object that are not valid.
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

// Validate says what is wrong with an object, as Errors. It is for objects that are about to be stored, after Default, and
// for objects that were stored by others.
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
		c.rules("spec.ingress", o.Spec.Ingress, place{})
		c.rules("spec.egress", o.Spec.Egress, place{})
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

// checker collects what is wrong with one object.
type checker struct{ errors Errors }

// add notes a value that is not valid. A value that is no plain one is shown as JSON.
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
	case kind.Name == KindWorkloadEndpoint && !isWord(m.Namespace, "-_.", 63): // it becomes the value of a label
		c.add("metadata.namespace", m.Namespace, "want letters, digits, '-', '_' and '.' inside, at most 63 characters")
	case kind.Namespaced && m.Namespace != "" && !isWord(m.Namespace, "-_.", 253): // stores hold what no cluster would name so
		c.add("metadata.namespace", m.Namespace, "want letters, digits, '-', '_' and '.' inside, at most 253 characters")
	}
	c.labels("metadata.labels", m.Labels)
	c.annotations("metadata.annotations", m.Annotations)
}

// name checks metadata.name for at most so many labels between dots.
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

// selector checks a selector.
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

// noGlobal checks that a selector does not ask for what has no namespace. The text counts, also that of values: so do the
// others who read the datastore.
func (c *checker) noGlobal(path, text string) {
	if strings.Contains(text, "global(") {
		c.add(path, text, "global() is only for the namespaceSelector of a rule")
	}
}

// globalAlone checks that global(), if it occurs, is the whole selector.
func (c *checker) globalAlone(path, text string) {
	rest, found := strings.CutPrefix(strings.Trim(text, " \t"), "global(")
	if strings.Contains(text, "global(") && !(found && strings.Trim(rest, " \t") == ")") {
		c.add(path, text, "global() must stand alone")
	}
}

// oneOf checks a word; an empty one is left out.
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

// unique checks that a list has no value twice.
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

// inOrder walks a map by its keys, so that errors come in the same order each time.
func inOrder[T any](m map[string]T) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
