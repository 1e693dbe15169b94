package process

import (
	"context"
	"io"
	"maps"
	"net/netip"
	"net/rpc"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
)

// Serve runs a Speaker for the agent at the other end of a connection, until the connection ends. Sessions end with the process, which
// must end then.
func Serve(conn io.ReadWriteCloser, log *logrus.Entry) {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server := rpc.NewServer()
	if err := server.RegisterName("Speaker", &child{ctx: ctx, log: log}); err != nil {
		panic(err) // a method has a wrong form
	}
	server.ServeConn(conn)
}

// child answers the calls of the agent.
type child struct {
	ctx     context.Context
	log     *logrus.Entry
	speaker *bgp.Speaker
	routes  readings
	paths   map[netip.Prefix]calc.Path
}

// Begin is the first call. It makes the Speaker.
func (c *child) Begin(o bgp.Options, _ *none) error {
	c.speaker = bgp.New(c.log, o)
	go c.speaker.Watch(c.ctx)
	return nil
}

// Apply is called by one goroutine at a time.
func (c *child) Apply(change Change, _ *none) error {
	c.log.Logger.SetLevel(change.Level)
	paths := maps.Clone(c.paths) // the Speaker keeps the former ones
	if paths == nil {
		paths = map[netip.Prefix]calc.Path{}
	}
	maps.Copy(paths, change.Paths)
	for _, prefix := range change.PathsGone {
		delete(paths, prefix)
	}
	c.paths = paths
	want := change.Settings
	want.Paths = paths
	c.speaker.Withhold(change.Withheld)
	if len(change.Limited) > 0 {
		c.speaker.KeepLimited(change.Limited)
	}
	return c.speaker.Apply(want)
}

// Follow waits until there is something new.
func (c *child) Follow(_ none, n *News) error {
	select {
	case <-c.speaker.News():
	case <-c.ctx.Done():
	}
	n.Learned, n.Complete = c.speaker.TakeLearned()
	n.Up = c.speaker.Sessions()
	n.Limited, n.Applied = c.speaker.Limited()
	return nil
}

func (c *child) Status(_ none, list *[]bgp.PeerStatus) error {
	*list = c.speaker.Status()
	return nil
}

func (c *child) Announced(_ none, list *[]bgp.Announcement) error {
	*list = c.speaker.Announced()
	return nil
}

func (c *child) Received(which Part, routes *Routes) (err error) {
	*routes, err = c.routes.part(which, c.speaker.Received)
	return err
}

func (c *child) Running(_ none, running *bool) error {
	*running = c.speaker.Running()
	return nil
}

func (c *child) InUse(k Kernel, counts *map[netip.Addr]int) error {
	*counts = c.speaker.InUse(k.Missing, k.Reached)
	return nil
}

func (c *child) RefreshPasswords(_ none, changed *bool) error {
	*changed = c.speaker.RefreshPasswords()
	return nil
}
