package lab

import (
	"fmt"
	"time"
)

// Patience is how long a test waits for what must come. Nothing takes nearly as long, even on a busy machine.
const Patience = 3 * time.Minute

// Await repeats a check until it passes. The error of the last check says what is missing.
func Await(t T, check func() error) {
	t.Helper()
	const pause = 10 * time.Millisecond
	var err error
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(pause) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited in vain: %v", err)
}

// Until is Await for a condition that has nothing to tell beside whether it holds.
func Until(t T, what string, holds func() bool) {
	t.Helper()
	Await(t, func() error {
		if !holds() {
			return fmt.Errorf("never came: %s", what)
		}
		return nil
	})
}

// LetPass lets time pass where there is no condition to wait for: something must not happen meanwhile, or traffic has to go
// on for a while. Each call says in a comment which of the two it is.
func LetPass(d time.Duration) { time.Sleep(d) }
