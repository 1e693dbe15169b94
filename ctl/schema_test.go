package main

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// What the reference and the command schema say comes from comments; a field without one says nothing.
func TestEveryFieldHasAMeaning(t *testing.T) {
	t.Parallel()
	var visit func(schemaElement)
	visit = func(e schemaElement) {
		name := e.path[len(e.path)-1]
		if len(e.path) > 2 && e.meaning() == "" && name != "spec" && name != "status" {
			t.Errorf("%s (%s) has no comment", strings.Join(e.path, "."), e.key)
		}
		for _, inner := range e.fields() {
			visit(inner)
		}
	}
	for _, kind := range api.Kinds() {
		if kind.Name == "KubeControllersConfiguration" {
			continue // means nothing here as a whole
		}
		visit(elementOf(kind))
	}
}
