package calc

import (
	"encoding/binary"
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

// labels are the labels of an entity as selectors see them: its own, with those that follow from its kind, and then those of its profiles.
// Of several labels with one name the first counts.
//
// There are many entities, so labels are packed: see labelNames.
type labels struct {
	names     *labelNames
	own       string     // packed
	inherited []*profile // in the order of the entity's profiles
}

// labelNames numbers the names of labels, of which there are few. It never forgets one. Packed labels are a string: for each label the
// number of its name, the length of its value, and the value.
type labelNames struct {
	numbers map[string]uint64
	names   []string
	packing packing // scratch space
}

func newLabelNames() *labelNames {
	n := &labelNames{numbers: map[string]uint64{}}
	n.packing.names = n
	return n
}

func (n *labelNames) number(name string) uint64 {
	number, known := n.numbers[name]
	if !known {
		number = uint64(len(n.names))
		name = strings.Clone(name)
		n.names = append(n.names, name)
		n.numbers[name] = number
	}
	return number
}

// packing builds an entity, or labels. Its buffers are used again for the next one.
type packing struct {
	names                        *labelNames
	labels, contribution, buffer []byte
}

func (p *packing) add(name, value string) {
	p.labels = binary.AppendUvarint(p.labels, p.names.number(name))
	p.labels = binary.AppendUvarint(p.labels, uint64(len(value)))
	p.labels = append(p.labels, value...)
}

func (p *packing) addAll(labels map[string]string) {
	for name, value := range labels {
		p.add(name, value)
	}
}

func (n *labelNames) pack(labels map[string]string) string {
	n.packing.labels = n.packing.labels[:0]
	n.packing.addAll(labels)
	return string(n.packing.labels)
}

// unpack yields packed labels by number until told to stop.
func unpack(packed string, yield func(number uint64, value string) bool) {
	for len(packed) > 0 {
		number, size := uvarint(packed)
		length, more := uvarint(packed[size:])
		start := size + more
		end := start + int(length)
		if !yield(number, packed[start:end]) {
			return
		}
		packed = packed[end:]
	}
}

// uvarint reads a number at the start of s, as binary.AppendUvarint wrote it, and returns how many bytes it has.
func uvarint(s string) (value uint64, size int) {
	for i := 0; ; i++ {
		value |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return value, i + 1
		}
	}
}

// addWorkload adds a workload endpoint's labels, and those that follow from its other fields.
func (p *packing) addWorkload(w *api.WorkloadEndpoint, ports []endpointPort) {
	p.add(labelNamespace, w.Namespace)
	if w.Spec.Orchestrator != "" {
		p.add(labelOrchestrator, w.Spec.Orchestrator)
	}
	if w.Spec.ServiceAccountName != "" {
		p.add(labelServiceAccount, w.Spec.ServiceAccountName)
	}
	for name, value := range w.Labels {
		if !overruled(name, &w.Spec) {
			p.add(name, value)
		}
	}
	p.addPorts(ports)
}

// addNetworkSet adds a network set's labels with that of its namespace; the namespace's own come through its profile.
func (p *packing) addNetworkSet(s *api.NetworkSet) {
	p.add(labelNamespace, s.Namespace)
	for name, value := range s.Labels {
		if name != labelNamespace {
			p.add(name, value)
		}
	}
}

// overruled reports whether a workload endpoint's own label does not count: because another field says it, or because only profiles may
// have it. Where that field is empty the label counts: older versions of Calico wrote some of these only as labels.
func overruled(name string, spec *api.WorkloadEndpointSpec) bool {
	if !strings.HasPrefix(name, "p") {
		return false
	}
	switch name {
	case labelNamespace:
		return true
	case labelOrchestrator:
		return spec.Orchestrator != ""
	case labelServiceAccount:
		return spec.ServiceAccountName != ""
	}
	return strings.HasPrefix(name, prefixNamespace) || strings.HasPrefix(name, prefixServiceAccount)
}

// Get returns the value of a label; with it labels are selector.Labels.
func (l labels) Get(name string) (value string, has bool) {
	if l.names == nil {
		return "", false
	}
	number, known := l.names.numbers[name]
	if !known {
		return "", false
	}
	return l.get(number)
}

// get returns the value of the label with a number.
func (l labels) get(number uint64) (value string, has bool) {
	find := func(n uint64, v string) bool {
		if n == number {
			value, has = v, true
		}
		return !has
	}
	unpack(l.own, find)
	for _, p := range l.inherited {
		if !has {
			unpack(p.labels, find)
		}
	}
	return value, has
}

// each calls f once for every label.
func (l labels) each(f func(number uint64, value string)) {
	unpack(l.own, func(number uint64, value string) bool {
		f(number, value)
		return true
	})
	for i, p := range l.inherited {
		before := labels{names: l.names, own: l.own, inherited: l.inherited[:i]}
		unpack(p.labels, func(number uint64, value string) bool {
			if _, has := before.get(number); !has {
				f(number, value)
			}
			return true
		})
	}
}
