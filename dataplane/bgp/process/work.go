package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// workOf returns the processor time that the threads of a process have used, and for which they have waited: on a busy machine, a process that
// works may get little. It leaves out threads that have ended.
func workOf(pid int) (sum time.Duration, err error) {
	// See Documentation/scheduler/sched-stats.rst in the kernel's source.
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	read := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited, slices int64 // in nanoseconds, and a count
		if _, err := fmt.Sscan(string(text), &ran, &waited, &slices); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(ran + waited)
		read++
	}
	if read == 0 {
		return 0, errors.New("the kernel does not say how much the process works")
	}
	return sum, nil
}
