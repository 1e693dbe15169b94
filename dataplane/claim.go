package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
)

// claim is the right to program a network namespace and to use a pin directory. Two agents with one namespace would judge
// its packets by two policies; two with one pin directory would take each other's programs for their own.
type claim struct {
	namespace net.Listener // nil: another process, which is no agent, holds the name
	pins      *bpf.Pins
	warning   error // another agent may run here unnoticed
}

// claimName is the name of an abstract socket (unix(7)). A network namespace has one of each name, without any file, and it goes
// with its process. A process that connects learns from the kernel which process listens.
const claimName = "@margay/felix"

// makeClaim claims the network namespace of the calling thread, and the pin directory. The claim ends with the process.
func makeClaim(pinDir string) (*claim, error) {
	namespace, warning, err := claimNamespace()
	if err != nil {
		return nil, err
	}
	c := &claim{namespace: namespace, warning: warning}
	if c.pins, err = bpf.OpenPins(pinDir); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *claim) close() error {
	var errs []error
	if c.namespace != nil {
		errs = append(errs, c.namespace.Close())
		c.namespace = nil
	}
	if c.pins != nil {
		errs = append(errs, c.pins.Close())
	}
	return errors.Join(errs...)
}

func claimNamespace() (held net.Listener, warning, err error) {
	for range 20 { // the holder may have bound the name and not listen yet, or may just have ended
		held, err = net.Listen("unix", claimName)
		if err == nil {
			go hangUp(held)
			return held, nil, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, nil, fmt.Errorf("claim the network namespace: %w", err)
		}
		holder, err := claimant()
		switch {
		case err != nil:
			warning = fmt.Errorf("a process that does not answer holds the abstract socket %s", claimName)
		case mayProgram(holder):
			return nil, nil, fmt.Errorf("another felix (%s) programs this network namespace: stop it first: two would judge packets by two policies", processName(holder))
		default:
			warning = fmt.Errorf("process %s of user %d, which is no felix, holds the abstract socket %s", processName(holder), holder.Uid, claimName)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Any process may take the name. It must not keep policy from being enforced.
	return nil, fmt.Errorf("%w: a second felix in this network namespace would not be noticed: end that process and restart felix", warning), nil
}

// hangUp closes every connection at once. It returns when the listener is closed.
func hangUp(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of file descriptors
			continue
		}
		conn.Close()
	}
}

// claimant returns the process that holds the name.
func claimant() (*unix.Ucred, error) {
	conn, err := net.DialTimeout("unix", claimName, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var holder *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { holder, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return holder, errors.Join(err, failed)
}

// mayProgram says whether a process can be an agent: only those of root, or with the capability, can attach programs.
func mayProgram(p *unix.Ucred) bool {
	if p.Uid == 0 || p.Uid == uint32(os.Geteuid()) {
		return true
	}
	missing, err := missingCapabilities(fmt.Sprintf("/proc/%d/status", p.Pid), capability{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN})
	return err == nil && len(missing) == 0
}

func processName(p *unix.Ucred) string {
	if p.Pid == 0 {
		return "a process of another PID namespace"
	}
	return fmt.Sprintf("process %d", p.Pid)
}
