package lab

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Process is a program that runs on a host.
type Process struct {
	*exec.Cmd
	t     T
	ended chan struct{}
	err   error // of Cmd.Wait; to be read when it has ended
}

// Start starts a program on the host. It is killed when the test ends, and by the kernel when the test's process does.
func (h *Host) Start(cmd *exec.Cmd) *Process {
	h.t.Helper()
	p := &Process{Cmd: cmd, t: h.t, ended: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		// Never unlocked, and here until the program has ended: it would die with its parent's thread.
		runtime.LockOSThread()
		err := netns.Set(h.ns)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.ended)
	}()
	h.check(<-started, "start %s", strings.Join(cmd.Args, " "))
	h.t.Cleanup(p.Kill)
	return p
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits until the program has ended and returns what Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Kill ends the program at once, as a crash does, and waits for its end.
func (p *Process) Kill() {
	_ = p.Process.Kill()
	<-p.ended
}

// Run runs a program on the host to its end and returns all that it printed. A program that takes longer than Patience is
// killed.
func (h *Host) Run(cmd *exec.Cmd) (output string, err error) {
	h.t.Helper()
	var out Output
	cmd.Stdout, cmd.Stderr = &out, &out
	p := h.Start(cmd)
	end := time.AfterFunc(Patience, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	err = p.Wait()
	return out.String(), err
}

// MustRun runs a command that must succeed and returns all that it printed.
func (h *Host) MustRun(command ...string) (output string) {
	h.t.Helper()
	output, err := h.Run(exec.Command(command[0], command[1:]...))
	if err != nil {
		h.t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, output)
	}
	return output
}

// Output collects what programs print. It may be read while they run.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Lines is how many lines hold a text.
func (o *Output) Lines(text string) (n int) {
	for line := range strings.Lines(o.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// AwaitText waits until the programs have printed a text.
func (o *Output) AwaitText(t T, text string) {
	t.Helper()
	Await(t, func() error {
		if said := o.String(); !strings.Contains(said, text) {
			return fmt.Errorf("%q is not in the output:\n%s", text, said)
		}
		return nil
	})
}
