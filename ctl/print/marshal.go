package print

import (
	"bytes"
	"encoding/json"
	"strconv"

	"go.yaml.in/yaml/v2"
)

func marshalJSON(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }

// MarshalYAML writes a value as its JSON says, with the keys in order. The output equals that of sigs.k8s.io/yaml, which reads the
// JSON as YAML on the way: that takes most of the time of a long list.
func MarshalYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var plain any
	if err := decoder.Decode(&plain); err != nil {
		return nil, err
	}
	return yaml.Marshal(withNumbers(plain))
}

// withNumbers puts the narrowest number in the place of each number's text.
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
