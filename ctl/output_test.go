package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestACommandThatCannotWriteItsOutputFails(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"version --client", "schema gnp", "validate -f ../docs/examples/tiers.yaml", "--help"} {
		var stderr bytes.Buffer
		code := run(context.Background(), strings.Fields(args), strings.NewReader(""), full{}, &stderr, func(string) string { return "" })
		if want := "the output is not complete: no space left on device\n"; code != 1 || stderr.String() != want {
			t.Errorf("%s: exit code %d, %q", args, code, stderr.String())
		}
	}
}
