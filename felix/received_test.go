package main

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/internal/lab"
)

// awaitReceived waits until the routes that peers have sent equal want: a line for each, with its state and reason.
func (f *felix) awaitReceived(want ...string) {
	f.Helper()
	lab.Await(f, func() error {
		var lines []string
		for _, r := range f.dump(received).Received {
			lines = append(lines, fmt.Sprintf("%s from %s: %s %s", r.Prefix, r.Peer, r.State, r.Reason))
		}
		if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
			return fmt.Errorf("received\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		return nil
	})
}
