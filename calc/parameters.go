package calc

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
)

// Parameters are settings of FelixConfiguration as text, in the form of Calico's environment variables (FELIX_...): names in any case,
// lists joined by commas, durations in seconds, failsafe ports as tcp:22 or tcp:10.0.0.0/8:22, and "none" for an empty value. They are
// the strongest layer of the configuration.

// layer is a FelixConfigurationSpec of which only some fields count. These count even if they are zero.
type layer struct {
	spec api.FelixConfigurationSpec
	set  map[int]bool // by the field's number in the struct
}

// parameterKey is the object of a parameter's problems: its environment variable.
func parameterKey(name string) api.Key {
	return api.Key{Kind: "Environment", Name: "FELIX_" + strings.ToUpper(name)}
}

// CheckParameters returns why parameters are invalid, by the name of their environment variable. For these the datastore's values hold.
func CheckParameters(parameters map[string]string) map[string]string {
	_, problems := readParameters(parameters)
	wrong := map[string]string{}
	for _, p := range problems {
		wrong[p.Object.Name] = p.Text
	}
	return wrong
}

// readParameters reads all parameters into one layer. Those that are invalid are problems, and are not in the layer.
func readParameters(parameters map[string]string) (l layer, problems []Problem) {
	l.set = map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		text := strings.TrimSpace(parameters[name])
		if text == "" {
			continue // as if it were not set: an empty line of a unit file must not open or close anything
		}
		if why := l.read(name, text); why != "" {
			problems = append(problems, Problem{Object: parameterKey(name), Text: why})
		}
	}
	return l, problems
}

// read reads one parameter into the layer. It returns why it could not; empty: it could.
func (l *layer) read(name, text string) (why string) {
	field, unit, known := parameterField(name)
	if !known {
		why = "no setting has this name, so it is ignored"
		if near := api.Nearest(name, parameterNames()); near != "" {
			return why + ": did you mean FELIX_" + strings.ToUpper(near) + "?"
		}
		return why + ": remove it"
	}
	value, err := parameterValue(field.Type, text, unit)
	if err != nil {
		return fmt.Sprintf("%q cannot be read, so the datastore's value holds: %v", text, err)
	}
	var alone api.FelixConfigurationSpec
	reflect.ValueOf(&alone).Elem().FieldByIndex(field.Index).Set(value)
	var complaints []string
	readSpec(alone, func(of, format string, args ...any) {
		if of != "bpfEnabled" { // it is valid, but has no effect
			complaints = append(complaints, fmt.Sprintf(format, args...))
		}
	})
	if len(complaints) > 0 {
		return "the datastore's value holds instead: " + strings.Join(complaints, "; ")
	}
	reflect.ValueOf(&l.spec).Elem().FieldByIndex(field.Index).Set(value)
	l.set[field.Index[0]] = true
	return ""
}

// ParameterAliases maps the parameters that are not called like their field to it. They are Calico's names, in lower case.
func ParameterAliases() map[string]string {
	return map[string]string{
		"bpfconntrackcleanupmode": "bpfConntrackMode", "endpointreportingdelaysecs": "endpointReportingDelay",
		"externalnodescidrlist": "externalNodesList", "ipinipenabled": "ipipEnabled", "ipinipmtu": "ipipMTU",
		"iptableslockprobeintervalmillis":    "iptablesLockProbeInterval",
		"iptablespostwritecheckintervalsecs": "iptablesPostWriteCheckInterval", "netlinktimeoutsecs": "netlinkTimeout",
		"reportingintervalsecs": "reportingInterval", "reportingttlsecs": "reportingTTL",
		"usagereportinginitialdelaysecs": "usageReportingInitialDelay", "usagereportingintervalsecs": "usageReportingInterval",
		"wireguardpersistentkeepalive": "wireguardKeepAlive",
	}
}

// parameterField finds the field that a parameter sets, and the unit of a duration that is given as a plain number.
func parameterField(name string) (field reflect.StructField, unit time.Duration, known bool) {
	name, unit = strings.ToLower(name), time.Second
	if strings.HasSuffix(name, "millis") {
		unit = time.Millisecond
	}
	if of, other := ParameterAliases()[name]; other {
		name = of
	}
	for f := range specFields() {
		if strings.EqualFold(fieldName(f), name) && fieldName(f) != "nodeSelector" {
			return f, unit, true
		}
	}
	return field, unit, false
}

func parameterNames() []string {
	names := slices.Collect(maps.Keys(ParameterAliases()))
	for f := range specFields() {
		names = append(names, strings.ToLower(fieldName(f)))
	}
	return names
}

func specFields() func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		spec := reflect.TypeFor[api.FelixConfigurationSpec]()
		for i := range spec.NumField() {
			if !yield(spec.Field(i)) {
				return
			}
		}
	}
}

// fieldName is a field's name in manifests.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
