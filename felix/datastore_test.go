package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab"
)

const (
	webAddress = "10.65.0.2"
	port       = 7007
)

// web makes a VM with an endpoint that every client reaches.
func (l *site) web() {
	l.Helper()
	l.vm("web", webAddress).Echo(port)
	l.apply(openProfile + workload("web", "cali-web", webAddress))
}

func connected(want bool) func(*agentv1.StatusResponse) error {
	return func(s *agentv1.StatusResponse) error {
		if s.Datastore.Connected != want || (s.Datastore.Error == "") != want {
			return errors.New("connected is not as wanted: " + s.Datastore.String())
		}
		return nil
	}
}

func TestFelixWaitsForEtcdAndSurvivesItsOutage(t *testing.T) {
	l := newSite(t)
	f := l.start()
	s := f.await(connected(false))
	if s.Datastore.InSync || s.Datastore.Ready || !strings.Contains(s.Datastore.Error, "does not answer") {
		t.Errorf("%v", s.Datastore)
	}
	l.host.Must(func() error {
		there, err := gate.Exists()
		if err == nil && !there {
			t.Error("interfaces of workloads are open while the datastore is not known")
		}
		return err
	})
	l.startEtcd()
	l.web()
	f.await(connected(true))
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)
	if n := f.log.Lines("out of reach"); n != 1 {
		t.Errorf("%d lines say that etcd is out of reach", n)
	}

	l.stopEtcd()
	f.await(connected(false))
	if !l.stillReaches(webAddress) {
		t.Error("traffic stops with etcd")
	}
	l.startEtcd()
	l.apply(policy("closed", "web", "Deny"))
	f.await(connected(true))
	l.awaitReach(webAddress, false)
}

// Objects may be unreadable after a restore, a typing error or a write by another version. They must not open or cut working
// connections.
func TestAnUnreadableObjectKeepsItsLastVersionOrClosesEndpoints(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("web", "web", "Allow"))
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)

	root := "/calico/resources/v3/projectcalico.org/"
	web := datastore.ResourceKey(api.Key{Kind: "GlobalNetworkPolicy", Name: "web"})
	l.put(web, "{not json")
	l.put(root+"frobnicators/x", `{"kind":"Frobnicator","metadata":{"name":"x"}}`)
	l.put(root+"profiles/open", `{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"open"},"spec":{"ingress":"all"}}`)
	f.awaitProblem("GlobalNetworkPolicy(web)", "last valid version is in force")
	f.awaitProblem("Profile(open)", "last valid version is in force")
	f.awaitProblem("frobnicators(x)", "not enforced by this version")
	if !l.stillReaches(webAddress) {
		t.Error("the last valid version is not in force any more")
	}

	f.kill() // the next process has not seen the valid version, but etcd still has it
	f = l.startSynced()
	f.awaitProblem("GlobalNetworkPolicy(web)", "last valid version is in force")
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)

	l.put(strings.Replace(web, "web", "broken", 1), `{"kind":"GlobalNetworkPolicy"`)
	f.awaitProblem("GlobalNetworkPolicy(broken)", "denies")
	l.awaitReach(webAddress, false) // its rules and its selector are unknown
	l.apply(policy("broken", "nobody", "Deny") + policy("web", "web", "Allow") + openProfile)
	l.awaitReach(webAddress, true)
}

func TestNothingChangesWhileTheDatastoreIsNotReady(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	ready := func(want bool) {
		t.Helper()
		lock(t, l.store, !want)
		f.await(func(s *agentv1.StatusResponse) error {
			if s.Datastore.Ready != want {
				return errors.New("ready is not as wanted")
			}
			return nil
		})
	}
	ready(false)
	node := api.Key{Kind: "Node", Name: "host1"}
	_, err := l.store.KV().Commit(context.Background(), nil, []kv.Write{{Key: datastore.ResourceKey(node), Delete: true}})
	must(t, err)
	l.apply(policy("closed", "web", "Deny"))
	l.vm("db", "10.65.0.3").Echo(port)
	l.apply(workload("db", "cali-db", "10.65.0.3"))
	f.await(func(s *agentv1.StatusResponse) error {
		if s.Datastore.Revision == s.Datastore.AppliedRevision {
			return errors.New("the changes are not read, or in force")
		}
		return nil
	})
	if !l.stillReaches(webAddress) {
		t.Error("the pause removes or changes policy")
	}
	if l.reaches("10.65.0.3") {
		t.Error("an interface opens during the pause")
	}

	f.kill() // the next process has programmed nothing itself, and keeps the state that it finds
	f = l.start()
	f.awaitPause()
	if !l.stillReaches(webAddress) {
		t.Error("a restart during the pause removes or changes policy")
	}
	if l.reaches("10.65.0.3") {
		t.Error("an interface opens in a restart during the pause")
	}
	if _, err := l.store.Get(context.Background(), node); !isError[datastore.NotFoundError](err) {
		t.Errorf("the node registers itself during the pause: %v", err)
	}
	ready(true)
	lab.Await(t, func() error {
		_, err := l.store.Get(context.Background(), node)
		return err
	})
	l.awaitReach(webAddress, false)
	l.awaitReach("10.65.0.3", true)
}

// awaitPause waits until everything is read and the status shows that the datastore is not ready.
func (f *felix) awaitPause() {
	f.Helper()
	f.await(func(s *agentv1.StatusResponse) error {
		if !s.Datastore.InSync || s.Datastore.Ready {
			return errors.New("felix does not pause")
		}
		return nil
	})
}

// An operator deletes everything, or replaces the right etcd by an empty one.
func TestAnEmptiedDatastoreLeavesPolicyInForce(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("web", "web", "Allow"))
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	l.awaitNode()
	ctx, everything := context.Background(), []kv.Write{}
	_, err := kv.Each(ctx, l.store.KV(), kv.Prefix("/calico/"), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			everything = append(everything, kv.Write{Key: entry.Key, Delete: true})
		}
		return nil
	})
	must(t, err)
	_, err = l.store.KV().Commit(ctx, nil, everything)
	must(t, err)
	f.awaitPause()
	if !l.stillReaches(webAddress) {
		t.Error("the earlier policy is not in force any more")
	}
	if _, err := l.store.Get(ctx, informationKey); !isError[datastore.NotFoundError](err) {
		t.Errorf("felix makes the empty datastore ready: %v", err)
	}
	l.apply(openProfile + workload("web", "cali-web", webAddress) + policy("closed", "web", "Deny"))
	l.awaitReach(webAddress, false)
	l.awaitNode()
}

// The etcd of a Calico cluster: its settings, its pools with an overlay, and no Node object for this host.
func TestFelixWorksWithADatastoreOfCalico(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(`
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {bpfEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: overlay}
spec: {cidr: 10.65.0.0/24, vxlanMode: Always}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: fabric}
spec: {peerIP: 192.0.2.1, asNumber: 64600}
`)
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	f.awaitProblem("FelixConfiguration(default)", "bpfEnabled is false", "enforced anyway")
	f.awaitProblem("IPPool(overlay)", "VXLAN")
	l.awaitReach(webAddress, true)
	l.apply(policy("closed", "web", "Deny"))
	l.awaitReach(webAddress, false)

	l.awaitNode()
	lab.Await(t, func() error { // the address is reserved, which makes the node own a block
		if !l.reserved(webAddress) {
			return errors.New("the address is not in IPAM")
		}
		return nil
	})
	f.awaitApplied()
	if routes := l.routes(); strings.Contains(routes, "blackhole") || !strings.Contains(routes, webAddress) {
		t.Errorf("routes\n%s", routes)
	}
	if announced := f.dump(announcements).Announcements; len(announced) > 0 {
		t.Errorf("announced: %v", announced)
	}

	node := datastore.ResourceKey(api.Key{Kind: "Node", Name: "host1"}) // margayctl would delete the endpoints as well
	_, err := l.store.KV().Commit(context.Background(), nil, []kv.Write{{Key: node, Delete: true}})
	must(t, err)
	if l.reaches(webAddress) {
		t.Error("without its Node object the node enforces nothing")
	}
	l.awaitNode()
	f.await(func(s *agentv1.StatusResponse) error {
		if !strings.Contains(f.log.String(), "creates it again") {
			return errors.New("the log does not say so")
		}
		return nil
	})
	f.awaitEnforced("cali-web")
	if l.reaches(webAddress) {
		t.Error("policy is gone")
	}
	if f.log.Lines("BGP restarts") > 0 {
		t.Error("BGP sessions end with the Node object")
	}
}

// awaitNode waits for the host's Node object with the detected address.
func (l *site) awaitNode() {
	l.Helper()
	lab.Await(l, func() error {
		o, err := l.store.Get(context.Background(), api.Key{Kind: "Node", Name: "host1"})
		if err != nil {
			return err
		}
		if bgp := o.(*api.Node).Spec.BGP; bgp == nil || bgp.IPv4Address != hostAddress+"/24" {
			return errors.New("the node has no address")
		}
		return nil
	})
}
