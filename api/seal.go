package api

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Calico's tools and agents share the datastore. They drop the fields that they do not know, and a rule without one of its
// criteria matches more packets. So the stored form of an Allow or Pass rule with such a field is sealed: its selector is ANDed
// with a condition that no labels meet. A program that drops the field keeps the seal, and the rule then matches nothing. Decoding
// removes a seal only if its field is still there. Deny and Log rules are not sealed: without the criterion they match more
// packets, which is safe, and with a seal they would match none. See docs/decisions/0008-sealed-rules.md.

// sealLabel is the beginning of the label in a seal. The name of the field follows.
const sealLabel = "margay/"

// ownFields names the criteria of a side that are set and that Calico does not know. Only these need a seal.
func (e *EntityRule) ownFields() (names []string) {
	if len(e.Domains) > 0 {
		names = append(names, "domains")
	}
	return names
}

// needsSeal says whether a rule with this action is sealed: all but Deny and Log.
func (a Action) needsSeal() bool {
	return !strings.EqualFold(string(a), string(Deny)) && !strings.EqualFold(string(a), string(Log))
}

// seal returns a condition that no labels meet. Its label names the field that it protects.
func seal(field string) string {
	has := "has(" + sealLabel + field + ")"
	return has + " && !" + has
}

// sealed adds the seal of a field to a selector. Blank text has no term to join with "&&", so it follows the seal as it is.
func sealed(text, field string) string {
	if strings.TrimSpace(text) == "" {
		return seal(field) + text
	}
	return seal(field) + " && (" + text + ")"
}

var sealStart = regexp.MustCompile(`^has\(` + sealLabel + `([A-Za-z0-9_./-]+)\) && !has\(` + sealLabel + `([A-Za-z0-9_./-]+)\)`)

// cutSeal removes the outermost seal of a selector, and returns the field that it protects. ok is false if there is no seal.
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
		return "", text, false // not written by sealed
	}
	return m[1], inner, true
}

// balanced says whether the parentheses of a selector match, so that it was one term inside of another pair.
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

// DroppedFields names the fields that a program without knowledge of them has dropped from the side of a rule: the seal of each is
// still there. open is the selector without these seals.
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

// ruleLists returns pointers to the lists of rules of an object: ingress, egress; none for kinds without rules.
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

// sealRules adds the seals to the rules of an object. It copies a list before it changes it, because objects may share lists.
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

// unsealRules removes the seals of fields that are present, and sets Unsealed in the metadata if one was missing.
func unsealRules(o Object) {
	for _, list := range ruleLists(o) {
		for i := range *list {
			if r := &(*list)[i]; !r.unseal() && r.Action.needsSeal() {
				o.Meta().Unsealed = true
			}
		}
	}
}

// unseal removes the seals of fields that are present. It says whether each such field had its seal.
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

// ForCalico returns a copy of an object that every version of Calico can read: without the fields of rules that Calico or this
// version does not know, and with a seal for each of them.
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

// asLabel turns the name of a field into a part of a label: characters that a label may not have become _.
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
