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

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

// A child that has not answered for this long is ended, unless it works: then it may take three times as long. The loop of the agent waits
// meanwhile. A child that hangs does not work, and one that reads a million routes takes some seconds.
const (
	patience     = 20 * time.Second
	longPatience = 3
)

var (
	errEnded    = errors.New("the BGP process has ended; it is started again at once")
	errStarting = errors.New("the BGP process has just started; ask again")
	errReplaced = errors.New("the BGP process is replaced to try a peer without any other")
)

// connection is the agent's end of the connection to a child.
type connection struct {
	rpc  *rpc.Client
	kill func()                        // ends the child
	work func() (time.Duration, error) // processor time that the child has used or waited for

	patience time.Duration

	paths map[netip.Prefix]calc.Path // that the child was told last
	told  atomic.Bool                // the child was told what is wanted: before that, its answers would say that there is nothing
}

// call asks the child. A child that does not answer is ended, and one with which nobody can talk any more.
func (c *connection) call(method string, arguments, answer any) error {
	call := c.rpc.Go(method, arguments, answer, make(chan *rpc.Call, 1))
	if err := c.wait(call); err != nil {
		c.kill()
		return err
	}
	var answered rpc.ServerError
	if call.Error == nil || errors.As(call.Error, &answered) {
		return call.Error
	}
	c.kill() // the connection is broken: the kernel has several errors for that
	return errEnded
}

// wait returns an error if an answer takes too long. Its first look at the work of the child is after half of the patience, so most answers
// cost none.
func (c *connection) wait(call *rpc.Call) error {
	half := c.patience / 2
	timer := time.NewTimer(half)
	defer timer.Stop()
	var before time.Duration
	for halves := 1; ; halves++ {
		select {
		case <-call.Done:
			return nil
		case <-timer.C:
		}
		now, err := c.work()
		hangs := err == nil && now-before < half/20 // it may still send keepalives. A child that cannot be looked at may work
		if halves >= 2 && (hangs || halves == 2*longPatience) {
			return fmt.Errorf("the BGP process has not answered for %v, so it is started again", time.Duration(halves)*half)
		}
		before = now
		timer.Reset(half)
	}
}

// apply tells the child the difference to what it was told last. The paths of the change are all that are wanted.
func (c *connection) apply(change Change) error {
	paths := change.Settings.Paths
	change.Settings.Paths = nil
	change.Paths, change.PathsGone = difference(c.paths, paths)
	c.paths = paths
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
