package agentv1

import (
	"errors"
	"fmt"
	"io"
)

// PrintRequirements writes a line for each requirement, and returns an error that says how many are not met. felix --check and
// margayctl node checksystem use it. A requirement whose Missing is empty is met.
func PrintRequirements(w io.Writer, list []*Requirement) error {
	unmet := 0
	for _, r := range list {
		word, text := "ok", r.Found
		switch {
		case r.Missing != "" && r.Optional:
			word, text = "warning", r.Missing
		case r.Missing != "":
			word, text = "missing", r.Missing
			unmet++
		}
		if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", word, r.Name, text); err != nil {
			return err
		}
	}
	switch unmet {
	case 0:
		return nil
	case 1:
		return errors.New("this host lacks something that felix needs, see the line that begins with missing")
	}
	return fmt.Errorf("this host lacks %d things that felix needs, see the lines that begin with missing", unmet)
}
