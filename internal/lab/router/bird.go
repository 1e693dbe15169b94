package router

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/skip"
)

// BIRD is BIRD 2 on a host. It puts the routes that it learns into the kernel if its configuration says so.
type BIRD struct {
	t      lab.T
	socket string
}

// FindBIRD returns the path of BIRD, which is not on everybody's PATH.
func FindBIRD() (path string, err error) {
	if path, err = exec.LookPath("bird"); err != nil {
		path, err = exec.LookPath("/usr/sbin/bird")
	}
	return path, err
}

// StartBIRD starts BIRD and waits until it answers. Its files are in dir.
func StartBIRD(t lab.T, on *lab.Host, dir, config string) *BIRD {
	t.Helper()
	path, err := FindBIRD()
	if err != nil {
		skip.For(t, "BIRD 2 is not installed")
	}
	b := &BIRD{t: t, socket: filepath.Join(dir, "bird.ctl")}
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatalf("write the configuration of BIRD: %v", err)
	}
	var out lab.Output
	cmd := exec.Command(path, "-f", "-c", file, "-s", b.socket, "-P", filepath.Join(dir, "bird.pid"))
	cmd.Stdout, cmd.Stderr = &out, &out
	running := on.Start(cmd)
	lab.Await(t, func() error {
		select {
		case <-running.Ended():
			t.Fatalf("BIRD has ended: %s", out.String())
		default:
		}
		_, err := b.Ask("show status")
		return err
	})
	return b
}

// Ask sends one command of birdc. A Unix socket is the same in every network namespace.
func (b *BIRD) Ask(command string) (string, error) {
	c, err := net.DialTimeout("unix", b.socket, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // greeting
		return "", err
	}
	if _, err := fmt.Fprintln(c, command); err != nil {
		return "", err
	}
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		text.WriteString(line)
		// The last line has a space after its number; numbers below 1000 end the reply.
		if len(line) > 4 && line[4] == ' ' && line[0] != ' ' && (line[0] == '0' || line[0] == '8' || line[0] == '9') {
			return text.String(), nil
		}
	}
}

// AwaitRoute waits until a route is there and its attributes contain all texts.
func (b *BIRD) AwaitRoute(prefix string, texts ...string) {
	b.t.Helper()
	lab.Await(b.t, func() error {
		out, err := b.Ask("show route all " + prefix)
		if err != nil {
			return err
		}
		for _, text := range append(slices.Clone(texts), prefix) {
			if !strings.Contains(out, text) {
				return fmt.Errorf("%q is not in\n%s", text, out)
			}
		}
		return nil
	})
}

// AwaitNoRoute waits until a route is gone.
func (b *BIRD) AwaitNoRoute(prefix string) {
	b.t.Helper()
	lab.Await(b.t, func() error {
		out, err := b.Ask("show route " + prefix)
		if err == nil && strings.Contains(out, prefix) {
			return errors.New(out)
		}
		return err
	})
}
