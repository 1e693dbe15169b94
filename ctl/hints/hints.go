package hints

import "errors"

// hinted is an error with lines that say what to try next. They follow the error's own line, which scripts may match.
type hinted struct {
	error
	lines []string
}

func (h hinted) Unwrap() error { return h.error }

// With adds lines to an error; empty ones are left out.
func With(err error, lines ...string) error {
	h := hinted{error: err}
	for _, line := range lines {
		if line != "" {
			h.lines = append(h.lines, line)
		}
	}
	return h
}

// Of returns the lines that an error carries: first its own, then those of the error that it wraps.
func Of(err error) []string {
	var h hinted
	if !errors.As(err, &h) {
		return nil
	}
	return append(h.lines, Of(h.error)...)
}
