package api

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Calico's tools and agents share the datastore. They drop the fields that they do not know, and a rule without one of its
// criteria matches more. So the stored form of a rule that allows or passes by such a field is sealed: its selector is ANDed
// with a condition that no label set meets. Whoever drops the field keeps the seal, and the rule then matches nothing. Decoding
// takes the seal off only where the field is still there. A Deny or Log matches more without the criterion, which is the closed
// side for them, so they have no seal: it would keep them from matching at all. See docs/decisions/0008-sealed-rules.md.

// sealLabel begins the name of the label that a seal asks for. The rest is the field's name.
const sealLabel = "margay/"

// ownFields names the criteria of a side that are set and that Calico does not know.
func (e *EntityRule) ownFields() (names []string) {
	if len(e.Domains) > 0 {
		names = append(names, "domains")
	}
	return names
}

// needsSeal says that a rule with this action matches less for each criterion that is dropped from it, if it is sealed.
func (a Action) needsSeal() bool {
	return !strings.EqualFold(string(a), string(Deny)) && !strings.EqualFold(string(a), string(Log))
}

// seal is a condition that nothing meets. The label says what for.
func seal(field string) string {
	has := "has(" + sealLabel + field + ")"
	return has + " && !" + has
}

// sealed is a selector with the seal of a field. Blank text stays behind it as it is: it has a meaning, and no term for "&&".
func sealed(text, field string) string {
	if strings.TrimSpace(text) == "" {
		return seal(field) + text
	}
	return seal(field) + " && (" + text + ")"
}

var sealStart = regexp.MustCompile(`^has\(` + sealLabel + `([A-Za-z0-9_./-]+)\) && !has\(` + sealLabel + `([A-Za-z0-9_./-]+)\)`)

// cutSeal takes the outermost seal off a selector; false if it has none.
func cutSeal(text string) (field, rest string, ok bool) {
	m := sealStart.FindStringSubmatch(text)
	if m == nil || m[1] != m[2] {
		return "", text, false
	}
	rest = text[len(m[0]):]
	if strings.TrimSpace(rest) == "" {
		return m[1], rest, true
	}
	inner, opened := strings.CutPrefix(rest, " && (")
	inner, closed := strings.CutSuffix(inner, ")")
	if !opened || !closed || !balanced(inner) {
		return "", text, false // it goes on otherwise
	}
	return m[1], inner, true
}

// balanced says that every parenthesis of a selector has its other one, so that it can stand within another pair.
func balanced(text string) bool {
	open, quote := 0, rune(0)
	for _, c := range text {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '(':
			open++
		case c == ')':
			if open--; open < 0 {
				return false
			}
		}
	}
	return open == 0 && quote == 0
}

// DroppedFields are fields that the side of a rule once had and that a program dropped which does not know them. The seal of
// each is still there; open is the selector without these seals.
func (e *EntityRule) DroppedFields() (names []string, open string) {
	open = e.Selector
	for {
		field, rest, ok := cutSeal(open)
		if !ok {
			return names, open
		}
		if !slices.Contains(e.Unknown, field) {
			names = append(names, field)
		}
		open = rest
	}
}

// ruleLists are the lists of rules that an object has.
func ruleLists(o Object) []*[]Rule {
	switch o := o.(type) {
	case *GlobalNetworkPolicy:
		return []*[]Rule{&o.Spec.Ingress, &o.Spec.Egress}
	case *NetworkPolicy:
		return []*[]Rule{&o.Spec.Ingress, &o.Spec.Egress}
	case *StagedGlobalNetworkPolicy:
		return []*[]Rule{&o.Spec.Ingress, &o.Spec.Egress}
	case *StagedNetworkPolicy:
		return []*[]Rule{&o.Spec.Ingress, &o.Spec.Egress}
	case *Profile:
		return []*[]Rule{&o.Spec.Ingress, &o.Spec.Egress}
	}
	return nil
}

func (r *Rule) sides() [2]*EntityRule { return [2]*EntityRule{&r.Source, &r.Destination} }

// sealRules seals the rules of an object. Lists that change are copied first: the object may share them.
func sealRules(o Object) {
	for _, list := range ruleLists(o) {
		if !slices.ContainsFunc(*list, func(r Rule) bool { return r.hasOwnFields() }) {
			continue
		}
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i].seal()
		}
	}
}

func (r *Rule) hasOwnFields() bool {
	return len(r.Source.ownFields())+len(r.Destination.ownFields()) > 0
}

func (r *Rule) seal() {
	if !r.Action.needsSeal() {
		return
	}
	for _, side := range r.sides() {
		for _, field := range side.ownFields() {
			side.Selector = sealed(side.Selector, field)
		}
	}
}

// unsealRules takes off the seals of the fields that are there, and notes in the metadata when one was missing.
func unsealRules(o Object) {
	for _, list := range ruleLists(o) {
		for i := range *list {
			if r := &(*list)[i]; !r.unseal() && r.Action.needsSeal() {
				o.Meta().Unsealed = true
			}
		}
	}
}

// unseal says whether each field that asks for a seal had one.
func (r *Rule) unseal() (complete bool) {
	complete = true
	for _, side := range r.sides() {
		own := side.ownFields()
		missing := slices.Clone(own)
		for {
			field, rest, ok := cutSeal(side.Selector)
			if !ok || !slices.Contains(own, field) {
				break
			}
			side.Selector = rest
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == field })
		}
		complete = complete && len(missing) == 0
	}
	return complete
}

// ForCalico is a copy of an object as any Calico can read it: without the fields of rules that it does not know, and with
// the seals of these, also of those that this version does not know.
func ForCalico(o Object) Object {
	copied := shallow(o)
	for _, list := range ruleLists(copied) {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i].dropForCalico()
		}
	}
	return copied
}

func (r *Rule) dropForCalico() {
	r.seal()
	unknown := func(side *EntityRule, fields []string) {
		for _, field := range fields {
			if r.Action.needsSeal() {
				side.Selector = sealed(side.Selector, asLabel(field))
			}
		}
	}
	unknown(&r.Source, r.Source.Unknown)
	unknown(&r.Destination, r.Destination.Unknown)
	unknown(&r.Destination, r.Unknown)
	r.Unknown, r.Rest = nil, nil
	for _, side := range r.sides() {
		side.Domains, side.Unknown, side.Rest = nil, nil, nil
	}
}

// asLabel is the name of a field as far as it may stand in a label.
func asLabel(field string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("._/-", c) || c < 128 && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
			return c
		}
		return '_'
	}, field)
}

func shallow(o Object) Object {
	v := reflect.New(reflect.TypeOf(o).Elem())
	v.Elem().Set(reflect.ValueOf(o).Elem())
	return v.Interface().(Object)
}
