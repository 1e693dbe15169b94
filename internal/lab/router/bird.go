package router

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/skip"
)

// BIRD is BIRD 2 on a host. It puts the routes that it learns into the kernel if its configuration says so.
type BIRD struct {
	t       lab.T
	on      *lab.Host
	dir     string
	socket  string
	running *lab.Process
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
	b := &BIRD{t: t, on: on, dir: dir, socket: filepath.Join(dir, "bird.ctl")}
	b.write(config)
	b.start(path)
	return b
}

func (b *BIRD) file() string { return filepath.Join(b.dir, "bird.conf") }

func (b *BIRD) start(path string, arguments ...string) {
	b.t.Helper()
	var out lab.Output
	cmd := exec.Command(path, append(arguments, "-f", "-c", b.file(), "-s", b.socket, "-P", filepath.Join(b.dir, "bird.pid"))...)
	cmd.Stdout, cmd.Stderr = &out, &out
	b.running = b.on.Start(cmd)
	lab.Await(b.t, func() error {
		select {
		case <-b.running.Ended():
			b.t.Fatalf("BIRD has ended: %s", out.String())
		default:
		}
		_, err := b.Ask("show status")
		return err
	})
}

// Kill ends BIRD at once. Its routes stay in the kernel.
func (b *BIRD) Kill() { b.running.Kill() }

// Restart kills BIRD and starts it again. Neighbours are asked to keep its routes meanwhile. Its routes in the kernel stay if its
// kernel protocol says "persist".
func (b *BIRD) Restart() {
	b.t.Helper()
	b.running.Kill()
	b.start(b.running.Path, "-R")
}

func (b *BIRD) write(config string) {
	b.t.Helper()
	if err := os.WriteFile(b.file(), []byte(config), 0o600); err != nil {
		b.t.Fatalf("write the configuration of BIRD: %v", err)
	}
}

// Configure gives BIRD another configuration.
func (b *BIRD) Configure(config string) {
	b.t.Helper()
	b.write(config)
	out, err := b.Ask("configure")
	if err != nil || !strings.Contains(out, "Reconfigur") {
		b.t.Fatalf("configure BIRD: %v\n%s", err, out)
	}
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
	awaitRoute(b.t, b.Ask, "show route all "+prefix, append(texts, prefix)...)
}

// AwaitNoRoute waits until a route is gone.
func (b *BIRD) AwaitNoRoute(prefix string) {
	b.t.Helper()
	awaitNoRoute(b.t, b.Ask, "show route "+prefix, prefix)
}
