package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// joinCluster replaces the site's etcd by a cluster. Felix reaches it over the network, the test over sockets.
func (l *site) joinCluster(c *etcdlab.Cluster) (host etcdlab.Port) {
	l.Helper()
	host = c.Attach(l.host, "etcd0")
	var sockets []string
	for _, m := range c.Members {
		l.cluster, sockets = append(l.cluster, m.URL), append(sockets, m.Socket)
	}
	client, err := etcd.Dial(context.Background(), etcd.Config{Endpoints: sockets})
	must(l, err)
	l.store = datastore.New(client)
	l.Cleanup(func() { l.store.Close() })
	return host
}

func TestFelixSurvivesFailuresOfItsEtcdCluster(t *testing.T) {
	l := newSite(t)
	c := etcdlab.StartCluster(t, etcdlab.Options{})
	host := l.joinCluster(c)
	l.web()
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)

	leader := c.Leader(t)
	leader.Kill()
	c.Leader(t)
	l.apply(policy("web", "web", "Deny"))
	l.awaitReach(webAddress, false)
	leader.Start(t)
	leader.Await(t)

	c.Split(t, []etcdlab.Port{host})
	l.apply(policy("web", "web", "Allow"))
	f.await(connected(false))
	if l.reaches(webAddress) {
		t.Error("the last policy that felix has read is not in force")
	}
	c.Heal(t)
	l.awaitReach(webAddress, true)
	f.await(connected(true))

	l.fill(c, pb.AlarmRequest_ACTIVATE)
	closed, err := api.Decode([]byte(policy("closed", "web", "Deny")))
	must(t, err)
	if _, err := l.store.Create(context.Background(), closed[0]); err == nil || !strings.Contains(err.Error(), "is full") {
		t.Errorf("creating a policy in a full etcd returns: %v", err)
	}
	f.kill() // a felix that starts now must enforce the stored policy
	f = l.startSynced()
	f.awaitEnforced("cali-web")
	l.delete("GlobalNetworkPolicy", "", "web")
	f.await(func(s *agentv1.StatusResponse) error {
		if !s.Datastore.Connected || s.Datastore.AppliedRevision < s.Datastore.Revision {
			return errors.New("the deletion is not in force")
		}
		return nil
	})
	if !l.stillReaches(webAddress) {
		t.Error("traffic stops because etcd is full")
	}
	l.fill(c, pb.AlarmRequest_DEACTIVATE)
	l.apply(policy("closed", "web", "Deny"))
	l.awaitReach(webAddress, false)
}

// fill raises or clears the cluster's NOSPACE alarm, as a full database does.
func (l *site) fill(c *etcdlab.Cluster, action pb.AlarmRequest_AlarmAction) {
	l.Helper()
	client := c.Leader(l).Client(l)
	_, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(context.Background(), &pb.AlarmRequest{
		Action: action, MemberID: 1, Alarm: pb.AlarmType_NOSPACE,
	})
	must(l, err)
}
