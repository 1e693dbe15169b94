package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
)

// loss counts the objects and addresses that depend on one object that is about to be deleted. Objects that the same command
// deletes by name do not count.
type loss struct {
	key       api.Key
	pool      netip.Prefix // of an IPPool
	addresses int          // of the pool, in use
	workloads int          // workload endpoints
	hosts     int          // host endpoints
	peers     int          // BGPPeers
}

// String says what the deletion does to the objects and addresses that depend on the object; empty if nothing does.
func (l *loss) String() string {
	switch {
	case l.key.Kind == api.KindIPPool && l.addresses+l.workloads > 0:
		return fmt.Sprintf("%v: %s in use, and %s in the pool: nodes withdraw the routes to them from their BGP peers",
			l.key, count(l.addresses, "address is", "addresses are"), count(l.workloads, "workload endpoint is", "workload endpoints are"))
	case l.key.Kind == api.KindNode && l.workloads+l.hosts+l.peers > 0:
		return fmt.Sprintf("%v: %s, %s and %s of the node are deleted with it, and the addresses of its workloads are released", l.key,
			count(l.workloads, "workload endpoint", "workload endpoints"), count(l.hosts, "host endpoint", "host endpoints"),
			count(l.peers, api.KindBGPPeer, "BGPPeers"))
	case l.key.Kind == api.KindProfile && l.workloads+l.hosts > 0:
		return fmt.Sprintf("%v: %s and %s name it: without it they are denied everything that no policy decides", l.key,
			count(l.workloads, "workload endpoint", "workload endpoints"), count(l.hosts, "host endpoint", "host endpoints"))
	}
	return ""
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// confirmLoss prints what depends on objects that are about to be deleted. At a terminal it asks whether to go on; a script
// goes on, as with calicoctl.
func (w *worker) confirmLoss(ctx context.Context, objects []api.Object) error {
	losses, err := w.losses(ctx, objects)
	told := err != nil
	if told { // the user may be allowed to delete objects, but not to read all that depend on them
		fmt.Fprintf(w.stderr, "it is not known how much depends on the objects: %v\n", err)
	}
	for _, l := range losses {
		if text := l.String(); text != "" {
			told = true
			fmt.Fprintln(w.stderr, text)
		}
	}
	if !told || w.dry || !w.asks {
		return nil
	}
	fmt.Fprint(w.stderr, "delete anyway? [y/N] ")
	answer, err := w.readLine()
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing was deleted: the answer was not yes")
	}
	return nil
}

// losses counts what depends on each pool, node and profile among the objects. Objects of other kinds take nothing with them.
func (w *worker) losses(ctx context.Context, objects []api.Object) ([]*loss, error) {
	var losses []*loss
	goes := map[api.Key]bool{} // deleted by name
	for _, o := range objects {
		key, err := keyToGet(o, w.at)
		if err != nil {
			continue // the deletion of the object reports the same error
		}
		goes[key] = true
		switch key.Kind {
		case api.KindIPPool:
			pool, err := w.poolOf(ctx, key)
			if err != nil {
				return nil, err
			}
			losses = append(losses, &loss{key: key, pool: pool})
		case api.KindNode, api.KindProfile:
			losses = append(losses, &loss{key: key})
		}
	}
	if len(losses) == 0 {
		return nil, nil
	}
	going := map[netip.Addr]bool{} // of workload endpoints that are deleted by name
	for _, kind := range []string{api.KindWorkloadEndpoint, api.KindHostEndpoint, api.KindBGPPeer} {
		err := w.st.EachPage(ctx, kind, "", func(page []api.Object, _ string) error {
			for _, o := range page {
				if !goes[api.KeyOf(o)] {
					countDependent(losses, o)
					continue
				}
				for _, addr := range addressesOf(o) {
					going[addr] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return losses, w.countAddresses(ctx, losses, going)
}

// poolOf returns the network of a pool. It is invalid if there is no such pool, or the stored pool is unreadable.
func (w *worker) poolOf(ctx context.Context, key api.Key) (netip.Prefix, error) {
	o, err := w.st.Get(ctx, key)
	if pool, ok := o.(*api.IPPool); ok && err == nil {
		network, _ := api.ParseNet(pool.Spec.CIDR)
		return network, nil
	}
	if _, unreadable := asUnreadable(err); unreadable || isNotFound(err) {
		return netip.Prefix{}, nil
	}
	return netip.Prefix{}, err
}

// countDependent counts an object with each loss that it depends on.
func countDependent(losses []*loss, o api.Object) {
	for _, l := range losses {
		switch o := o.(type) {
		case *api.WorkloadEndpoint:
			in := func(addr netip.Addr) bool { return l.pool.Contains(addr) }
			if l.isNode(o.Spec.Node) || l.isProfile(o.Spec.Profiles) || slices.ContainsFunc(addressesOf(o), in) {
				l.workloads++
			}
		case *api.HostEndpoint:
			if l.isNode(o.Spec.Node) || l.isProfile(o.Spec.Profiles) {
				l.hosts++
			}
		case *api.BGPPeer:
			if l.isNode(o.Spec.Node) {
				l.peers++
			}
		}
	}
}

func (l *loss) isNode(name string) bool { return l.key.Kind == api.KindNode && l.key.Name == name }
func (l *loss) isProfile(names []string) bool {
	return l.key.Kind == api.KindProfile && slices.Contains(names, l.key.Name)
}

// addressesOf returns the addresses of a workload endpoint; none for other kinds.
func addressesOf(o api.Object) (addresses []netip.Addr) {
	if endpoint, ok := o.(*api.WorkloadEndpoint); ok {
		for _, text := range endpoint.Spec.IPNetworks {
			if network, err := api.ParseNet(text); err == nil {
				addresses = append(addresses, network.Addr())
			}
		}
	}
	return addresses
}

// countAddresses counts the allocated addresses of each pool. going holds the addresses to leave out.
func (w *worker) countAddresses(ctx context.Context, losses []*loss, going map[netip.Addr]bool) error {
	if !slices.ContainsFunc(losses, func(l *loss) bool { return l.pool.IsValid() }) {
		return nil
	}
	return ipam.Assignments(ctx, w.st.KV(), func(a ipam.Assignment) error {
		for _, l := range losses {
			if l.pool.Contains(a.Addr) && !going[a.Addr] {
				l.addresses++
			}
		}
		return nil
	})
}

// readLine reads one line from standard input. An interrupt is an error: the question was not answered.
func (s *session) readLine() (string, error) {
	type line struct {
		text string
		err  error
	}
	answered := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(s.stdin).ReadString('\n')
		answered <- line{strings.TrimSpace(text), err}
	}()
	select {
	case l := <-answered:
		if l.err != nil && l.text == "" {
			return "", errors.New("nothing was deleted: there was no answer")
		}
		return l.text, nil
	case <-s.interrupted:
		return "", errors.New("nothing was deleted: interrupted at the question")
	}
}
