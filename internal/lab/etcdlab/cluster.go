package etcdlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/skip"
)

// Options say what the cluster is like.
type Options struct {
	Old       bool            // the server that the distribution has, the oldest that is supported, instead of the newest
	Arguments []string        // further ones of each server
	Scheme    string          // of the clients' URLs; http if empty
	Admin     clientv3.Config // how the members' own clients prove who they are
}

// Cluster is three members and a client.
type Cluster struct {
	Members []*Member
	Client  Port

	options Options
	network *network
	guests  []Port
	dir     string
}

const (
	size = 3
	// The last numbers of the addresses of those that are no members.
	clientNumber, guestNumber = 10, 20
	sharedSpace               = "/dev/shm"
)

// StartCluster starts a cluster and waits until all of its members are healthy.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Old {
		if _, err := exec.LookPath("etcd"); err != nil {
			skip.For(t, "needs the distribution's etcd-server: %v", err)
		}
	}
	if o.Scheme == "" {
		o.Scheme = "http"
	}
	c := &Cluster{options: o, network: newNetwork(t), dir: directory(t)}
	c.Client = c.network.plug(t, "client", clientNumber)
	for i := range size {
		m := &Member{cluster: c, Port: c.network.plug(t, fmt.Sprintf("m%d", i+1), i+1)}
		m.peer = address(peerSubnet, i+1)
		c.network.connect(m.Host, m.peerCable(), peerCable, m.peer)
		m.URL, m.dir = o.Scheme+"://"+m.Address+":2379", filepath.Join(c.dir, m.name)
		m.Socket = "unix://" + filepath.Join(c.dir, m.name+".sock")
		c.Members = append(c.Members, m)
	}
	t.Cleanup(c.Kill)
	c.StartAll(t)
	return c
}

// directory is in memory where that is possible, because an old server waits for its disk with each write.
func directory(t testing.TB) string {
	t.Helper()
	parent := sharedSpace
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "etcdlab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// StartAll starts every member and waits for them.
func (c *Cluster) StartAll(t testing.TB) {
	t.Helper()
	for _, m := range c.Members {
		m.Start(t)
	}
	for _, m := range c.Members {
		m.Await(t)
	}
}

// Kill ends all members at once.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.Kill()
	}
}

func (c *Cluster) initial() string {
	var members []string
	for _, m := range c.Members {
		members = append(members, m.name+"="+m.peerURL())
	}
	return strings.Join(members, ",")
}

// Endpoints are the URLs of all members.
func (c *Cluster) Endpoints() (urls []string) {
	for _, m := range c.Members {
		urls = append(urls, m.URL)
	}
	return urls
}

// Leader waits until a member leads.
func (c *Cluster) Leader(t testing.TB) (leader *Member) {
	t.Helper()
	lab.Await(t, func() error {
		for _, m := range c.Members {
			if m.process != nil && m.isLeader(t) {
				leader = m
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// Follower is a member that does not lead.
func (c *Cluster) Follower(t testing.TB) *Member {
	t.Helper()
	leader := c.Leader(t)
	for _, m := range c.Members {
		if m != leader {
			return m
		}
	}
	panic("a cluster of one")
}

// Split cuts some members and clients off from the others. Packets under way between the two are lost without a sign.
func (c *Cluster) Split(t testing.TB, clients []Port, members ...*Member) {
	t.Helper()
	for _, p := range clients {
		c.network.move(p.name, 1)
	}
	for _, m := range members {
		c.network.move(m.name, 1)
		c.SplitPeers(t, m)
	}
}

// SplitPeers cuts a member off from the others, but not from clients.
func (c *Cluster) SplitPeers(t testing.TB, off *Member) {
	t.Helper()
	c.network.move(off.peerCable(), 1)
}

// Heal undoes every split.
func (c *Cluster) Heal(t testing.TB) {
	t.Helper()
	for _, m := range c.Members {
		c.network.move(m.name, 0)
		c.network.move(m.peerCable(), 0)
	}
	for _, p := range append(c.guests, c.Client) {
		c.network.move(p.name, 0)
	}
}

// Backup copies the data of a cluster that does not run, and returns what puts it back.
func (c *Cluster) Backup(t testing.TB) (restore func(t testing.TB)) {
	t.Helper()
	backup := directory(t)
	for _, m := range c.Members {
		if err := os.CopyFS(filepath.Join(backup, m.name), os.DirFS(m.dir)); err != nil {
			t.Fatal(err)
		}
	}
	return func(t testing.TB) {
		t.Helper()
		for _, m := range c.Members {
			m.Wipe(t)
			if err := os.CopyFS(m.dir, os.DirFS(filepath.Join(backup, m.name))); err != nil {
				t.Fatal(err)
			}
		}
	}
}
