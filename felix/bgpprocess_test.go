package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

// children returns the processes that felix has started.
func (f *felix) children() (pids []int) {
	f.Helper()
	of := fmt.Sprintf("/proc/%d/task", f.process.Process.Pid)
	tasks, err := os.ReadDir(of)
	must(f, err)
	for _, task := range tasks {
		list, _ := os.ReadFile(fmt.Sprintf("%s/%s/children", of, task.Name())) // the thread may have ended
		for _, text := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(text)
			must(f, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// child returns the child with an argument; 0: there is none.
func (f *felix) child(argument string) int {
	f.Helper()
	for _, pid := range f.children() {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); slices.Contains(strings.Split(string(line), "\x00"), argument) {
			return pid
		}
	}
	return 0
}

// awaitChild waits for the child with an argument: felix answers before it has started all of its children.
func (f *felix) awaitChild(argument string) (pid int) {
	f.Helper()
	lab.Await(f, func() error {
		if pid = f.child(argument); pid == 0 {
			return fmt.Errorf("felix has no child %s", argument)
		}
		return nil
	})
	return pid
}

// killBGP kills the BGP process, and waits until there is another one.
func (f *felix) killBGP() {
	f.Helper()
	before := f.awaitChild(bgpProcess)
	must(f, syscall.Kill(before, syscall.SIGKILL))
	lab.Await(f, func() error {
		if now := f.child(bgpProcess); now == 0 || now == before {
			return errors.New("felix has not started another BGP process")
		}
		return nil
	})
}

// terminating are the signals of terminals and systemd, as bits.
const terminating = 1<<(syscall.SIGTERM-1) | 1<<(syscall.SIGINT-1)

// The BGP process ends with felix, however felix ends, and never before it.
func TestTheBGPProcessEndsWithFelix(t *testing.T) {
	l := newSite(t)
	for _, end := range []func(*felix){(*felix).kill, (*felix).terminate} {
		f := l.start()
		answers := func(*agentv1.StatusResponse) error { return nil }
		f.await(answers)
		child := f.awaitChild(bgpProcess)
		lab.Await(t, func() error {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
			if err != nil {
				return err
			}
			_, after, _ := strings.Cut(string(status), "SigIgn:") // see proc_pid_status(5)
			ignored, err := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
			if err == nil && ignored&terminating != terminating {
				err = fmt.Errorf("the BGP process does not ignore signals yet: %x", ignored)
			}
			return err
		})
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) != "felix-bgp\n" {
			t.Errorf("its name is %q", name)
		}
		must(t, syscall.Kill(child, syscall.SIGTERM)) // as systemd and terminals do to all processes of a service
		must(t, syscall.Kill(child, syscall.SIGINT))
		f.await(answers)
		if now := f.awaitChild(bgpProcess); now != child {
			t.Errorf("process %d has ended, and now there is %d", child, now)
		}
		end(f)
		lab.Await(t, func() error {
			if err := syscall.Kill(child, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("the BGP process still runs: %v", err)
			}
			return nil
		})
	}
}
