// Demo runs Margay's main job for people to watch: two hosts with felix and VMs behind them, a client outside and
// the fabric's router between them, all in network namespaces of its own, with real packets. Each step prints the
// command that a user would type and what traffic did; the exit status is 0 only if every verdict was the expected one.
//
// Start at steps.go, the story; rack.go has its part with two hosts, site.go builds the hosts, traffic.go sends the packets.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the process that runs in the demo's own mount namespace.
const inside = "MARGAY_DEMO_INSIDE"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and BPF need root: run sudo make demo")
	}
	if os.Getenv(inside) == "" {
		return runInside()
	}
	if len(os.Args) == 2 && os.Args[1] == speaker {
		return runSpeaker()
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return play(ctx)
}

// play builds the site and tells the story. Everything is removed afterwards.
func play(ctx context.Context) (err error) {
	on := &stage{}
	defer on.close()
	defer func() {
		if reason := recover(); reason != nil {
			failed, ours := reason.(failure)
			if !ours {
				panic(reason)
			}
			err = errors.New(string(failed))
		}
	}()
	return tell(ctx, newSite(on))
}

// runInside runs the demo in a mount namespace: what it mounts is gone when it ends, whatever ends it.
func runInside() error {
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), inside+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	// A signal is passed on: the inner process cleans up, and this one waits for it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := self.Start(); err != nil {
		return err
	}
	go func() {
		for range signals {
			self.Process.Signal(syscall.SIGTERM)
		}
	}()
	err := self.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	return err
}
