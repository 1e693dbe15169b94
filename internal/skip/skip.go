// Package skip lets tests skip where the machine lacks something: root, a tool, a feature of the kernel. With the variable
// MARGAY_NO_SKIPS in the environment such a test fails instead. CI sets it, because there nothing may be lacking, and a skip
// would hide a test that never runs.
package skip

import (
	"fmt"
	"os"
)

// T is the part of testing.TB that skipping needs.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// For ends the test: it is skipped for this reason, or has failed.
func For(t T, format string, about ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, about...)
	if os.Getenv("MARGAY_NO_SKIPS") != "" {
		t.Fatalf("MARGAY_NO_SKIPS is set, and this test cannot run here: %s", reason)
	}
	t.Skip(reason)
}
