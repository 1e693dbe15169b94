package print

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/margay-project/margay/api"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// CheckOutput checks -o of the verbs that ask the agent: table, json or yaml.
func CheckOutput(output string) error {
	switch output {
	case "table", "json", "yaml":
		return nil
	}
	return fmt.Errorf("unrecognized output format '%s': want table, json or yaml", output)
}

// Message prints an answer of the agent as JSON or YAML. protojson varies its white space on purpose; Message formats it
// again, because scripts and tests need the same output each time.
func Message(w io.Writer, message proto.Message, output string) error {
	text, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	if output == "yaml" {
		if text, err = api.YAMLOfJSON(text); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	var compact, indented bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return err
	}
	if err := json.Indent(&indented, compact.Bytes(), "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, indented.String())
	return err
}
