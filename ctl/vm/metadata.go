package vm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// URI is the XML namespace of Margay's element in the <metadata> of a domain.
const URI = "https://margay.io/libvirt/1"

// metadata is the element <workload> of a domain's <metadata>.
type metadata struct {
	name, namespace string
	all             terms // of every interface
	each            []interfaceTerms
}

// terms is what the operator wants of an interface.
type terms struct {
	labels    map[string]string
	profiles  []string
	addresses []string
	chosen    bool // IPAM chooses the addresses
	pools     []string
	count     int // of IPv4 addresses to choose
	ipv6Count int
}

// interfaceTerms are the terms of one interface.
type interfaceTerms struct {
	terms
	mac, device string // one of them finds the interface
	endpoint    string // its name; empty: eth0 and so on
	ignored     bool   // no endpoint is made
}

// element is an XML element of any name.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []element  `xml:",any"`
	Text     string     `xml:",chardata"`
}

// readMetadata reads Margay's element of a domain; nil if there is none.
func readMetadata(text []byte) (*metadata, error) {
	var parsed struct {
		Metadata struct {
			Children []element `xml:",any"`
		} `xml:"metadata"`
	}
	if err := xml.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	var found *metadata
	for _, e := range parsed.Metadata.Children {
		if !strings.HasPrefix(e.XMLName.Space, "https://margay.io/libvirt") {
			continue
		}
		if e.XMLName.Space != URI || e.XMLName.Local != "workload" {
			return nil, fmt.Errorf("<%s xmlns=%q> is not known: want <workload xmlns=%q>", e.XMLName.Local, e.XMLName.Space, URI)
		}
		if found != nil {
			return nil, errors.New("there are two elements <workload>: want one")
		}
		m, err := readWorkload(e)
		if err != nil {
			return nil, err
		}
		found = m
	}
	return found, nil
}

func readWorkload(e element) (*metadata, error) {
	m := &metadata{namespace: "default", all: terms{labels: map[string]string{}}}
	counts, err := attributes(e, map[string]*string{"name": &m.name, "namespace": &m.namespace}, &m.all)
	if err != nil {
		return nil, err
	}
	for _, child := range e.Children {
		if child.XMLName.Local == "interface" && child.XMLName.Space == URI {
			one, err := readInterface(child)
			if err != nil {
				return nil, err
			}
			m.each = append(m.each, one)
			continue
		}
		if err := m.all.read(child, "label, profile, address, pool or interface"); err != nil {
			return nil, err
		}
	}
	return m, m.all.check(e, counts)
}

func readInterface(e element) (i interfaceTerms, err error) {
	i.labels = map[string]string{}
	ignore := "no"
	counts, err := attributes(e, map[string]*string{"mac": &i.mac, "target": &i.device, "endpoint": &i.endpoint, "ignore": &ignore}, &i.terms)
	if err != nil {
		return i, err
	}
	i.mac, i.ignored = strings.ToLower(i.mac), ignore == "yes"
	switch {
	case (i.mac == "") == (i.device == ""):
		return i, errors.New("<interface> needs one of the attributes mac and target, which say which interface it is about")
	case ignore != "yes" && ignore != "no":
		return i, fmt.Errorf("<interface>: ignore is %q: want yes or no", ignore)
	}
	for _, child := range e.Children {
		if err := i.read(child, "label, profile, address or pool"); err != nil {
			return i, err
		}
	}
	return i, i.check(e, counts)
}

// attributes reads the attributes of an element: some texts, and those that say how many addresses IPAM chooses. counts says whether
// there was one of the latter.
func attributes(e element, texts map[string]*string, t *terms) (counts bool, err error) {
	t.count = -1
	for _, a := range e.Attrs {
		name := a.Name.Local
		if a.Name.Space == "xmlns" || a.Name.Space == "" && name == "xmlns" {
			continue
		}
		if into, known := texts[name]; known {
			*into = a.Value
			continue
		}
		n, isNumber := strconv.Atoi(a.Value)
		switch {
		case name == "ipam" && a.Value == "auto":
			t.chosen = true
		case name == "ipam":
			return false, fmt.Errorf("<%s>: ipam is %q: want auto, or give addresses with <address>", e.XMLName.Local, a.Value)
		case name == "count" && isNumber == nil && n >= 0:
			t.count, counts = n, true
		case name == "ipv6-count" && isNumber == nil && n >= 0:
			t.ipv6Count, counts = n, true
		case name == "count" || name == "ipv6-count":
			return false, fmt.Errorf("<%s>: %s is %q: want a number", e.XMLName.Local, name, a.Value)
		default:
			return false, fmt.Errorf("<%s> has no attribute %s", e.XMLName.Local, name)
		}
	}
	if t.count < 0 {
		t.count = 1
		if counts {
			t.count = 0 // only IPv6
		}
	}
	return counts, nil
}

// read reads an element that a workload and an interface may have.
func (t *terms) read(e element, wanted string) error {
	name, text := e.XMLName.Local, strings.TrimSpace(e.Text)
	if e.XMLName.Space != URI {
		return fmt.Errorf("<%s> is not in the namespace %s: want %s", name, URI, wanted)
	}
	if name == "label" && len(e.Children) == 0 {
		return t.readLabel(e)
	}
	into := map[string]*[]string{"profile": &t.profiles, "address": &t.addresses, "pool": &t.pools}[name]
	switch {
	case into == nil && name != "label":
		return fmt.Errorf("<%s> is not known: want %s", name, wanted)
	case len(e.Children) > 0:
		return fmt.Errorf("<%s> may hold no other element", name)
	}
	for _, a := range e.Attrs {
		if a.Name.Local != "xmlns" && a.Name.Space != "xmlns" {
			return fmt.Errorf("<%s> has no attribute %s: write <%s>VALUE</%s>", name, a.Name.Local, name, name)
		}
	}
	if text == "" {
		return fmt.Errorf("<%s> is empty", name)
	}
	*into = append(*into, text)
	return nil
}

func (t *terms) readLabel(e element) error {
	var key, value string
	if _, err := attributes(e, map[string]*string{"key": &key, "value": &value}, &terms{}); err != nil {
		return err
	}
	if key == "" || strings.TrimSpace(e.Text) != "" {
		return errors.New(`<label> needs the attributes key and value: <label key="role" value="web"/>`)
	}
	if _, twice := t.labels[key]; twice {
		return fmt.Errorf("<label>: key %s is there twice", key)
	}
	t.labels[key] = value
	return nil
}

// check refuses terms that contradict each other.
func (t *terms) check(e element, counts bool) error {
	t.chosen = t.chosen || len(t.pools) > 0
	switch {
	case t.chosen && len(t.addresses) > 0:
		return fmt.Errorf("<%s>: give its addresses with <address>, or have IPAM choose them (ipam, <pool>), not both", e.XMLName.Local)
	case counts && !t.chosen:
		return fmt.Errorf("<%s>: count and ipv6-count say how many addresses IPAM chooses: give ipam=\"auto\" or <pool> too", e.XMLName.Local)
	case strings.TrimSpace(e.Text) != "":
		return fmt.Errorf("<%s> holds the text %q: want elements only", e.XMLName.Local, strings.TrimSpace(e.Text))
	}
	return nil
}

// hasAddresses says whether the terms say which addresses an interface has.
func (t *terms) hasAddresses() bool { return t.chosen || len(t.addresses) > 0 }

// over returns these terms where they say something, and otherwise those of the workload.
func (t terms) over(all terms) terms {
	labels := map[string]string{}
	for _, from := range []map[string]string{all.labels, t.labels} {
		for key, value := range from {
			labels[key] = value
		}
	}
	t.labels = labels
	if len(t.profiles) == 0 {
		t.profiles = slices.Clone(all.profiles)
	}
	if !t.hasAddresses() {
		t.addresses, t.chosen, t.pools, t.count, t.ipv6Count = all.addresses, all.chosen, all.pools, all.count, all.ipv6Count
	}
	return t
}
