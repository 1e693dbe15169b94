package api

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api/selector"
)

func domainRule(action Action, text string) Rule {
	return Rule{Action: action, Destination: EntityRule{Selector: text, Domains: []string{"example.com"}}}
}

func storedPolicy(t *testing.T, rules ...Rule) []byte {
	t.Helper()
	text, err := Encode(&GlobalNetworkPolicy{Metadata: Metadata{Name: "p"}, Spec: GlobalNetworkPolicySpec{Egress: rules}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readPolicy(t *testing.T, text []byte) *GlobalNetworkPolicy {
	t.Helper()
	o, err := DecodeStored("GlobalNetworkPolicy", text)
	if err != nil {
		t.Fatal(err)
	}
	return o.(*GlobalNetworkPolicy)
}

// storedSelector returns the stored selector of the first rule, which other programs see.
func storedSelector(t *testing.T, text []byte) string {
	t.Helper()
	var o GlobalNetworkPolicy
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return o.Spec.Egress[0].Destination.Selector
}

// A sealed selector matches nothing, and without the seal it is as it was written.
func TestASealMatchesNothingAndIsRemoved(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	parts := []string{"all()", "has(a)", "!has(margay/domains)", "a == '('", `b != ")"`, "(a in {'x', 'y'} || has(b))",
		"has(margay/domains) && !has(margay/domains)", "(has(a)) || (has(b))", "a == \"it's\""}
	texts := []string{"", " ", "\t", "has(a)", "(a == 'x') || (b == 'y')"}
	for range 500 {
		text := parts[random.IntN(len(parts))]
		for random.IntN(2) == 0 {
			text += []string{" && ", "||", " || !"}[random.IntN(3)] + parts[random.IntN(len(parts))]
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		stored := storedPolicy(t, domainRule(Allow, text))
		closed, err := selector.Parse(storedSelector(t, stored))
		if err != nil {
			t.Fatalf("seed %d: %q is stored as %q: %v", seed, text, storedSelector(t, stored), err)
		}
		for _, labels := range []selector.Map{{}, {"a": "x"}, {"a": "x", "b": "y", "margay/domains": ""}, {"margay/domains": "x"}} {
			if closed.Matches(labels) {
				t.Errorf("seed %d: %q is stored as %q, which matches %v", seed, text, closed, labels)
			}
		}
		read := readPolicy(t, stored)
		want := text
		for { // a seal that people wrote beside the field comes off too
			field, rest, ok := cutSeal(want)
			if !ok || field != "domains" {
				break
			}
			want = rest
		}
		if got := read.Spec.Egress[0].Destination.Selector; got != want || read.Unsealed {
			t.Errorf("seed %d: %q reads back as %q, unsealed: %v", seed, text, got, read.Unsealed)
		}
		if again := storedPolicy(t, read.Spec.Egress...); storedSelector(t, again) != storedSelector(t, storedPolicy(t, domainRule(Allow, want))) {
			t.Errorf("seed %d: %q is stored the second time as %q", seed, text, storedSelector(t, again))
		}
	}
}

// A Deny or Log without its criterion matches more, as it should; a seal would keep it from matching at all.
func TestOnlyRulesThatLetThroughAreSealed(t *testing.T) {
	t.Parallel()
	for action, want := range map[Action]bool{Allow: true, Pass: true, "allow": true, "odd": true, "": true, Deny: false, "deny": false, Log: false} {
		stored := storedPolicy(t, domainRule(action, "has(a)"))
		if got := storedSelector(t, stored) != "has(a)"; got != want {
			t.Errorf("%s: sealed %v: %s", action, got, stored)
		}
		if read := readPolicy(t, stored); read.Unsealed || read.Spec.Egress[0].Destination.Selector != "has(a)" {
			t.Errorf("%s: reads back as %+v", action, read)
		}
	}
}

func TestASealStaysWhenItsFieldIsGone(t *testing.T) {
	t.Parallel()
	stored := strings.Replace(string(storedPolicy(t, domainRule(Allow, "has(a)"))), `"domains":["example.com"]`, `"notNets":[]`, 1)
	read := readPolicy(t, []byte(stored))
	side := &read.Spec.Egress[0].Destination
	if side.Selector != "has(margay/domains) && !has(margay/domains) && (has(a))" {
		t.Errorf("selector %q", side.Selector)
	}
	dropped, open := side.DroppedFields()
	if !slices.Equal(dropped, []string{"domains"}) || open != "has(a)" {
		t.Errorf("dropped %q, open %q", dropped, open)
	}
	if got := strings.Join(Warnings(read, Pass), "\n"); !strings.Contains(got, "spec.egress[0].destination.domains was dropped by a program") {
		t.Errorf("warnings: %s", got)
	}
	if again := storedPolicy(t, read.Spec.Egress...); storedSelector(t, again) != side.Selector {
		t.Errorf("stored the second time as %s", again)
	}
}

// The seal of a field that only a newer version knows stays.
func TestSealsOfANewerVersionStay(t *testing.T) {
	t.Parallel()
	const newer = `{"kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"egress":[{"action":"Allow","destination":{` +
		`"selector":"has(margay/later) && !has(margay/later) && (has(a))","later":["x"],"domains":["example.com"]}}]}}`
	read := readPolicy(t, []byte(newer))
	side := read.Spec.Egress[0].Destination
	if !strings.HasPrefix(side.Selector, "has(margay/later)") || !slices.Equal(side.Unknown, []string{"later"}) {
		t.Errorf("read as %+v", side)
	}
	if dropped, _ := side.DroppedFields(); len(dropped) > 0 {
		t.Errorf("dropped: %v, but the field is there", dropped)
	}
	again := readPolicy(t, storedPolicy(t, read.Spec.Egress...)).Spec.Egress[0].Destination
	if diff := cmp.Diff(side, again); diff != "" {
		t.Error(diff)
	}
}

func TestEncodeLeavesTheObjectAlone(t *testing.T) {
	t.Parallel()
	policy := &GlobalNetworkPolicy{Metadata: Metadata{Name: "p"}, Spec: GlobalNetworkPolicySpec{Egress: []Rule{domainRule(Allow, "has(a)")}}}
	if _, err := Encode(policy); err != nil {
		t.Fatal(err)
	}
	if got := policy.Spec.Egress[0].Destination.Selector; got != "has(a)" {
		t.Errorf("selector %q", got)
	}
}

// Rules of every kind that has any are sealed.
func TestRulesOfEveryKindAreSealed(t *testing.T) {
	t.Parallel()
	var rules func(v reflect.Value) []*[]Rule
	rules = func(v reflect.Value) (lists []*[]Rule) {
		if list, ok := v.Addr().Interface().(*[]Rule); ok {
			return []*[]Rule{list}
		}
		if v.Kind() == reflect.Struct && !isLeaf(v.Type()) {
			for i := range v.NumField() {
				lists = append(lists, rules(v.Field(i))...)
			}
		}
		return lists
	}
	kinds := 0
	for _, k := range Kinds() {
		o := k.New()
		want := rules(reflect.ValueOf(o).Elem())
		if got := ruleLists(o); !slices.Equal(got, want) {
			t.Errorf("%s: of %d lists of rules %d are sealed", k.Name, len(want), len(got))
		}
		kinds += min(1, len(want))
	}
	if kinds < 5 {
		t.Errorf("only %d kinds have rules", kinds)
	}
}
