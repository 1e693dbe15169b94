package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/cni"
	"github.com/margay-project/margay/ctl/hints"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // after the first signal, a second one kills the process
	arguments := os.Args[1:]
	if filepath.Base(os.Args[0]) == cni.Name { // called by a container runtime
		arguments = []string{"cni", "run"}
	}
	os.Exit(run(ctx, arguments, os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run runs the whole command. It returns the exit code: 0, or 1 after any error unless the verb has another code for errors.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	return newSession(stdin, stdout, stderr, getenv).run(ctx, args)
}

func (s *session) run(ctx context.Context, args []string) int {
	s.interrupted = ctx.Done()
	root := newRoot(s)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := s.stdout.err; lost != nil && (err == nil || isAnswer(err)) {
		err = fmt.Errorf("the output is not complete: %w", lost)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	if err != nil {
		if text := err.Error(); text != "" {
			fmt.Fprintln(s.stderr, text)
		}
		for _, hint := range hints.Of(err) {
			fmt.Fprintln(s.stderr, hint)
		}
		return codeOf(cmd, err)
	}
	return 0
}

// exitAnnotation is the annotation of a command whose errors exit with another code than 1. Its value is the code.
const exitAnnotation = "exit code of errors"

func codeOf(cmd *cobra.Command, err error) int {
	if answer, ok := errors.AsType[exitCode](err); ok {
		return answer.code
	}
	if code, err := strconv.Atoi(cmd.Annotations[exitAnnotation]); err == nil {
		return code
	}
	return 1
}

// exitCode is an error that carries an exit code, for an answer that is no failure. Its text may be empty.
type exitCode struct {
	error
	code int
}

func isAnswer(err error) bool {
	_, is := errors.AsType[exitCode](err)
	return is
}
