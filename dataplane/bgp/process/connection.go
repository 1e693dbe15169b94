package process

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/rpc"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
)

// patience is how long a child may take for an answer. It is for a child that hangs: reading a million routes takes some seconds.
const patience = time.Minute

var (
	errEnded    = errors.New("the BGP process has ended; it is started again at once")
	errStarting = errors.New("the BGP process has just started; ask again")
	errReplaced = errors.New("the BGP process is replaced to try a peer without any other")
)

// connection is the agent's end of the connection to a child.
type connection struct {
	rpc  *rpc.Client
	kill func() // ends the child

	patience time.Duration

	paths map[netip.Prefix]calc.Path // that the child was told last
	told  atomic.Bool                // the child was told what is wanted: before that, its answers would say that there is nothing
}

// call asks the child. A child that does not answer is ended, and one with which nobody can talk any more.
func (c *connection) call(method string, arguments, answer any) error {
	call := c.rpc.Go(method, arguments, answer, make(chan *rpc.Call, 1))
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case <-call.Done:
	case <-timer.C:
		c.kill()
		return fmt.Errorf("the BGP process has not answered for %v, so it is started again", c.patience)
	}
	var answered rpc.ServerError
	if call.Error == nil || errors.As(call.Error, &answered) {
		return call.Error
	}
	c.kill() // the connection is broken: the kernel has several errors for that
	return errEnded
}

// apply tells the child the difference to what it was told last.
func (c *connection) apply(want calc.BGP, withheld map[string]bgp.Withheld, level logrus.Level) error {
	change := Change{Settings: want, Withheld: withheld, Level: level}
	change.Settings.Paths = nil
	change.Paths, change.PathsGone = difference(c.paths, want.Paths)
	c.paths = want.Paths
	return c.call(callApply, change, new(none))
}

// socketPair returns the agent's end of a new connection, and the child's.
func socketPair() (ours io.ReadWriteCloser, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "agent")
	if ours, err = connectionOf(os.NewFile(uintptr(fds[0]), "speaker")); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Inherited returns the child's end of the connection to its agent.
func Inherited() (io.ReadWriteCloser, error) {
	const first = 3 // after standard input, output and error
	conn, err := connectionOf(os.NewFile(first, "agent"))
	if err != nil {
		return nil, fmt.Errorf("no connection to an agent: %w; felix starts this process itself", err)
	}
	return conn, nil
}

// connectionOf returns the connection of a socket. It takes the file.
func connectionOf(file *os.File) (io.ReadWriteCloser, error) {
	defer file.Close() // FileConn has a descriptor of its own
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
