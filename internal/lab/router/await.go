package router

import (
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/internal/lab"
)

// awaitRoute repeats a command until the answer contains all texts.
func awaitRoute(t lab.T, ask func(string) (string, error), command string, texts ...string) {
	t.Helper()
	lab.Await(t, func() error {
		out, err := ask(command)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return fmt.Errorf("%q is not in\n%s", text, out)
			}
		}
		return nil
	})
}

// awaitNoRoute repeats a command until the answer does not contain the text.
func awaitNoRoute(t lab.T, ask func(string) (string, error), command, text string) {
	t.Helper()
	lab.Await(t, func() error {
		out, err := ask(command)
		if err == nil && strings.Contains(out, text) {
			return errors.New(out)
		}
		return err
	})
}
