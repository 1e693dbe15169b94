package api

import (
	"bytes"
	"encoding/json"
	"strconv"

	"go.yaml.in/yaml/v2" // it writes as Calico's tools do: version 3 does not break long lines
)

// MarshalYAML writes a value as YAML with the fields of its JSON, in the order of their names. The output equals that of
// sigs.k8s.io/yaml, which Calico's tools use, byte for byte. That library parses the JSON as YAML on the way, which takes most
// of the time of a long list.
func MarshalYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return YAMLOfJSON(text)
}

// YAMLOfJSON is MarshalYAML for a value that is JSON already.
func YAMLOfJSON(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var plain any
	if err := decoder.Decode(&plain); err != nil {
		return nil, err
	}
	return yaml.Marshal(withNumbers(plain))
}

// withNumbers replaces the text of each number by the narrowest type that holds it: int64, uint64, float64.
func withNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = withNumbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = withNumbers(inner)
		}
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
		if n, err := v.Float64(); err == nil {
			return n
		}
		return string(v)
	}
	return v
}
