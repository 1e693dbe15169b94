package lab

import "os"

// ShortDir makes a directory and removes it with the test. Its path leaves room for the name of a Unix socket, which
// t.TempDir does not for tests with long names.
func ShortDir(t T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "margay")
	if err != nil {
		t.Fatalf("make a directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
