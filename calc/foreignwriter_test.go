package calc

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// calicoFields are the fields of policies that Calico's types have: api/pkg/apis/projectcalico/v3/{globalnetworkpolicy,
// networkpolicy,policy_common,profile}.go. Its tools read a stored object into these types and write back what they hold.
var calicoFields = map[reflect.Type][]string{
	reflect.TypeFor[api.GlobalNetworkPolicySpec](): {"tier", "order", "ingress", "egress", "selector", "types", "doNotTrack", "preDNAT",
		"applyOnForward", "serviceAccountSelector", "namespaceSelector", "performanceHints"},
	reflect.TypeFor[api.NetworkPolicySpec](): {"tier", "order", "ingress", "egress", "selector", "types", "serviceAccountSelector",
		"performanceHints"},
	reflect.TypeFor[api.ProfileSpec](): {"ingress", "egress", "labelsToApply"},
	reflect.TypeFor[api.Rule](): {"action", "ipVersion", "protocol", "icmp", "notProtocol", "notICMP", "source", "destination", "http",
		"metadata"},
	reflect.TypeFor[api.EntityRule](): {"nets", "selector", "namespaceSelector", "services", "ports", "notNets", "notSelector", "notPorts",
		"serviceAccounts"},
	reflect.TypeFor[api.ICMPFields]():          {"type", "code"},
	reflect.TypeFor[api.HTTPMatch]():           {"methods", "paths"},
	reflect.TypeFor[api.HTTPPath]():            {"exact", "prefix"},
	reflect.TypeFor[api.ServiceMatch]():        {"name", "namespace"},
	reflect.TypeFor[api.ServiceAccountMatch](): {"names", "selector"},
	reflect.TypeFor[api.RuleMetadata]():        {"annotations"},
}

// jsonFields calls f with each field of a struct as JSON sees it, with those of embedded structs.
func jsonFields(of reflect.Type, f func(name string, field reflect.StructField)) {
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && field.Anonymous:
			jsonFields(field.Type, f)
		default:
			f(name, field)
		}
	}
}

// dropUnknown is the JSON of a value of a type after a program of Calico read and wrote it.
func dropUnknown(t *testing.T, of reflect.Type, value any) any {
	t.Helper()
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch value := value.(type) {
	case []any:
		for i := range value {
			value[i] = dropUnknown(t, of.Elem(), value[i])
		}
	case map[string]any:
		if of.Kind() != reflect.Struct {
			return value
		}
		known := map[string]reflect.Type{}
		jsonFields(of, func(name string, field reflect.StructField) {
			if list, listed := calicoFields[of]; !listed || slices.Contains(list, name) {
				known[name] = field.Type
			}
		})
		for name := range value {
			if known[name] == nil {
				delete(value, name)
				continue
			}
			value[name] = dropUnknown(t, known[name], value[name])
		}
	}
	return value
}

// foreignCopy is the stored form of an object after a program of Calico read and wrote it.
func foreignCopy(t *testing.T, kind string, stored []byte) []byte {
	t.Helper()
	var value any
	if err := json.Unmarshal(stored, &value); err != nil {
		t.Fatal(err)
	}
	o, _ := api.New(kind)
	text, err := json.Marshal(dropUnknown(t, reflect.TypeOf(o), value))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ownField is a field of rules that only our types have.
type ownField struct {
	path []string // from the rule
	set  func(*api.Rule)
}

// ownFields finds all of them by reflection, also those that will be added later.
func ownFields(t *testing.T) (found []ownField) {
	t.Helper()
	var visit func(of reflect.Type, path []string, index [][]int)
	visit = func(of reflect.Type, path []string, index [][]int) {
		known, listed := calicoFields[of]
		if !listed {
			t.Fatalf("%v is part of rules: list the fields that Calico's type has", of)
		}
		jsonFields(of, func(name string, field reflect.StructField) {
			at, index := append(slices.Clone(path), name), append(slices.Clone(index), field.Index)
			if !slices.Contains(known, name) {
				found = append(found, ownField{at, func(r *api.Rule) { fill(t, descend(reflect.ValueOf(r).Elem(), index)) }})
				return
			}
			inner := field.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if _, leaf := reflect.New(inner).Interface().(json.Unmarshaler); inner.Kind() == reflect.Struct && !leaf {
				visit(inner, at, index)
			}
		})
	}
	visit(reflect.TypeFor[api.Rule](), nil, nil)
	return found
}

// descend returns a field inside a value, and makes the values that lead to it.
func descend(v reflect.Value, index [][]int) reflect.Value {
	for _, i := range index {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
			switch {
			case v.Kind() == reflect.Pointer && v.IsNil():
				v.Set(reflect.New(v.Type().Elem()))
			case v.Kind() == reflect.Slice && v.Len() == 0:
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			if v.Kind() == reflect.Slice {
				v = v.Index(0)
			} else {
				v = v.Elem()
			}
		}
		v = v.FieldByIndex(i)
	}
	return v
}

// fill gives a field a value that restricts a rule.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("example.com")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("no sample of %v: give one, so that the field is tried", v.Type())
	}
}

// A program that does not know a field of ours drops it when it writes an object, and ignores it when it reads one. Neither may allow a
// packet that the rule as written does not allow. The test tries each such field with each action in each kind.
func TestAForeignWriterDoesNotWidenRules(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	w := world{rand.New(rand.NewPCG(seed, 0))}
	fields := ownFields(t)
	if len(fields) == 0 {
		t.Fatal("no field is ours: where are the domains?")
	}
	tried := 0
	for range 30 {
		for _, field := range fields {
			for _, action := range []api.Action{api.Allow, api.Deny, api.Pass, api.Log} {
				rule := foreignRule(w, action)
				field.set(&rule)
				for _, o := range foreignObjects(w, rule) {
					tried++
					compareForeign(t, fmt.Sprintf("seed %d, %s, %s", seed, strings.Join(field.path, "."), action), w, o)
				}
			}
		}
	}
	t.Logf("%d objects with one of %d fields", tried, len(fields))
}

// foreignRule is a rule with criteria that Calico knows, or none.
func foreignRule(w world, action api.Action) api.Rule {
	selector := func() string {
		return pick(w, "", "", " ", "role == 'a'", "all()", "has(role) || (role != 'b')", "!all()")
	}
	side := func() api.EntityRule {
		return api.EntityRule{Selector: selector(), NotSelector: pick(w, "", "", "role == 'b'"), Nets: some(w, "10.0.0.0/8", "192.0.2.0/24"),
			Ports: pick(w, nil, nil, []api.Port{{First: 80, Last: 90}}), NamespaceSelector: pick(w, "", "", "", "all()")}
	}
	return api.Rule{Action: action, Source: maybe(w, side), Destination: maybe(w, side), Protocol: pick(w, nil, &api.Protocol{Name: "TCP"})}
}

// foreignObjects are objects of every kind that has rules, with one rule among others.
func foreignObjects(w world, rule api.Rule) []api.Object {
	plain := func() []api.Rule {
		return some(w, api.Rule{Action: api.Deny}, foreignRule(w, api.Allow), foreignRule(w, api.Deny), foreignRule(w, api.Pass))
	}
	rules := func() []api.Rule { return slices.Concat(plain(), []api.Rule{rule}, plain()) }
	both := []api.PolicyType{api.Ingress, api.Egress}
	return []api.Object{
		&api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy}, Metadata: api.Metadata{Name: "p"},
			Spec: api.GlobalNetworkPolicySpec{Types: both, Ingress: rules(), Egress: rules(), ApplyOnForward: w.maybe()}},
		&api.NetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindNetworkPolicy}, Metadata: api.Metadata{Name: "p", Namespace: "ns"},
			Spec: api.NetworkPolicySpec{Types: both, Ingress: rules(), Egress: rules()}},
		&api.Profile{TypeMeta: api.TypeMeta{Kind: api.KindProfile}, Metadata: api.Metadata{Name: "prof"},
			Spec: api.ProfileSpec{Ingress: rules(), Egress: rules()}},
	}
}

// compareForeign compares the verdicts of an object as we store and read it with those after a foreign program wrote it, and with those of
// a foreign program that reads it.
func compareForeign(t *testing.T, what string, w world, o api.Object) {
	t.Helper()
	kind := o.Type().Kind
	stored, err := api.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	foreign := foreignCopy(t, kind, stored)
	ours, err := api.DecodeStored(kind, stored)
	if err != nil {
		t.Fatal(err)
	}
	rewritten, err := api.DecodeStored(kind, foreign)
	if err != nil {
		t.Fatal(err)
	}
	peer, _ := api.New(kind)
	if err := json.Unmarshal(foreign, peer); err != nil {
		t.Fatal(err)
	}
	want := foreignState(ours)
	for reader, of := range map[string]*State{"written by a foreign program": foreignState(rewritten), "read by a foreign program": foreignState(peer)} {
		for range 20 {
			p := Packet{Source: pick(w, addr("10.65.0.1"), addr("10.65.0.2"), addr("192.0.2.1")), SourcePort: 80,
				Destination: pick(w, addr("10.65.0.1"), addr("10.65.0.2"), addr("198.51.100.1")), DestinationPort: pick[uint16](w, 80, 443),
				Protocol: pick[uint8](w, protocolTCP, protocolUDP)}
			for id, e := range want.Endpoints {
				for stage := range e.Policies {
					for _, dir := range []Direction{Ingress, Egress} {
						before, after := Judge(want, id, Stage(stage), dir, p), Judge(of, id, Stage(stage), dir, p)
						if before.Action != api.Allow && after.Action == api.Allow {
							t.Fatalf("%s: %s, %v %v: %v was %q by %v, now allowed by %v\nstored: %s\nthen:   %s",
								what, reader, Stage(stage), dir, p, before.Action, before.Rule, after.Rule, stored, foreign)
						}
					}
				}
			}
		}
	}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// foreignState is a node with an object, a workload with a profile and a host endpoint.
func foreignState(o api.Object) *State {
	vm := func(name, role, address string) *api.WorkloadEndpoint {
		return &api.WorkloadEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint},
			Metadata: api.Metadata{Name: "n1-vm-" + name + "-eth0", Namespace: "ns", Labels: map[string]string{"role": role}},
			Spec: api.WorkloadEndpointSpec{Node: "n1", Orchestrator: "vm", InterfaceName: "cali" + name, IPNetworks: []string{address},
				Profiles: []string{"prof"}}}
	}
	var updates []api.Update
	for _, o := range []api.Object{o, vm("a", "a", "10.65.0.1"), vm("b", "b", "10.65.0.2"),
		&api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindHostEndpoint}, Metadata: api.Metadata{Name: "eth0"},
			Spec: api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0", Profiles: []string{"prof"}}},
	} {
		updates = append(updates, api.Update{Key: api.KeyOf(o), Object: o})
	}
	return Compute("n1", Facts{}, updates)
}

// A rule that lost a field has a problem. A Deny still denies all that it denied.
func TestADroppedFieldIsAProblem(t *testing.T) {
	t.Parallel()
	policy := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy}, Metadata: api.Metadata{Name: "p"},
		Spec: api.GlobalNetworkPolicySpec{Egress: []api.Rule{{Action: api.Allow, Destination: api.EntityRule{Domains: []string{"example.com"}}}}}}
	stored, err := api.Encode(policy)
	if err != nil {
		t.Fatal(err)
	}
	for replace, want := range map[string]string{
		"": "egress rule 0: destination field domains was dropped by a program that does not know it: apply the policy again as it " +
			"was written; until then the rule matches nothing",
		`"action":"Deny"`: "until then the rule denies everything that meets its other criteria",
	} {
		foreign := string(foreignCopy(t, api.KindGlobalNetworkPolicy, stored))
		if replace != "" {
			foreign = strings.Replace(foreign, `"action":"Allow"`, replace, 1)
		}
		read, err := api.DecodeStored(api.KindGlobalNetworkPolicy, []byte(foreign))
		if err != nil {
			t.Fatal(err)
		}
		state := foreignState(read)
		if got := fmt.Sprint(state.Problems); !strings.Contains(got, want) {
			t.Errorf("problems %s, want %s", got, want)
		}
		rule := state.Policies[PolicyID{Kind: api.KindGlobalNetworkPolicy, Name: "p"}].Egress[0]
		if rule.Never != (replace == "") || rule.Destination.Set != "" {
			t.Errorf("after %q the rule is %v", replace, rule)
		}
	}
}

func TestAnUnsealedPolicyIsAProblem(t *testing.T) {
	t.Parallel()
	for text, stored := range map[string]bool{
		`{"metadata":{"name":"p"},"spec":{"egress":[{"action":"Allow","destination":{"domains":["example.com"]}}]}}`: true,
		`{"metadata":{"name":"p"},"spec":{"egress":[{"action":"Deny","destination":{"domains":["example.com"]}}]}}`:  false,
		`{"metadata":{"name":"p"},"spec":{"egress":[{"action":"Allow"}]}}`:                                           false,
	} {
		read, err := api.DecodeStored(api.KindGlobalNetworkPolicy, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(foreignState(read).Problems); strings.Contains(got, unsealed) != stored {
			t.Errorf("%s: problems %s", text, got)
		}
	}
}
