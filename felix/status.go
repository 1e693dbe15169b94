package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

// status says whether the node enforces the datastore, and lists the problems.
func (a *agent) status() *agentv1.StatusResponse {
	kernel := a.driver.Status()
	connected, endpoints, unreached := a.connection.state()
	if endpoints == nil {
		endpoints = a.settings.datastore.Endpoints
	}
	response := &agentv1.StatusResponse{
		Node: a.settings.nodeName, Version: version, Commit: commit, StartedAt: a.started.UnixNano(),
		Datastore: &agentv1.Datastore{
			Endpoints: endpoints,
			Connected: connected,
			Error:     text(unreached),
			InSync:    a.inSync,
			Ready:     a.inSync && a.state.Ready,
			Revision:  a.revision, AppliedRevision: a.applied,
		},
		Dataplane: &agentv1.Dataplane{
			Generation: kernel.Generation, Epoch: kernel.Epoch,
			Rules: uint32(kernel.Rules), RulesLimit: uint32(kernel.RulesLimit),
			Connections: uint32(kernel.Connections), ConnectionsLimit: uint32(kernel.ConnectionsLimit),
			Unproven: uint32(kernel.Unproven), UnprovenLimit: uint32(kernel.UnprovenLimit),
			Drops: kernel.Drops, Repairs: kernel.Repairs,
		},
		Configuration: a.configuration(),
	}
	if !a.appliedAt.IsZero() {
		response.Datastore.AppliedAt = a.appliedAt.UnixNano()
	}
	for _, i := range kernel.Interfaces {
		response.Interfaces = append(response.Interfaces, statusOfInterface(i))
	}
	for _, t := range kernel.Tables {
		response.Tables = append(response.Tables, &agentv1.Table{
			Name: t.Name, Wanted: uint32(t.Wanted), Programmed: uint32(t.Programmed), Failed: uint32(t.Failed), Error: text(t.Error),
		})
	}
	response.Peers = a.statusOfPeers()
	kernel.Problems = slices.DeleteFunc(kernel.Problems, func(line string) bool { return slices.Contains(kernel.RouteProblems, line) })
	response.Problems = a.problems(kernel.Problems, kernel.Interfaces,
		slices.Concat(routeProblems(kernel.RouteProblems), meshProblem(response.Peers), a.resumptionProblems()))
	return response
}

func statusOfInterface(i dataplane.Interface) *agentv1.Interface {
	return &agentv1.Interface{
		Name: i.Name, Index: uint32(i.Index), Endpoint: endpointName(i.Endpoint), EndpointKind: i.Endpoint.Kind,
		State: string(i.State), Reason: i.Reason, Mac: i.MAC, Attachment: i.Attached, Dhcp: i.DHCP,
	}
}

// problems returns the problems of the calculation, the datastore, the kernel and BGP, and more, each once, sorted.
func (a *agent) problems(kernel []string, interfaces []dataplane.Interface, more []*agentv1.Problem) (list []*agentv1.Problem) {
	invalid := maps.Clone(a.invalid)
	for p := range a.state.Problems {
		list = append(list, &agentv1.Problem{Object: p.Object.String(), Text: p.Text})
		if why := invalid[p.Object]; why != "" && strings.Contains(p.Text, why) {
			delete(invalid, p.Object) // there never was a valid version, and the problem of the calculation explains that
		}
	}
	for key, why := range invalid {
		list = append(list, &agentv1.Problem{
			Object: key.String(), Text: "the stored object is not valid, so its last valid version is in force: " + why,
		})
	}
	for _, line := range kernel {
		list = append(list, &agentv1.Problem{Object: "dataplane", Text: line})
	}
	list = append(list, more...)
	list = append(list, idleProblems(interfaces)...)
	list = append(list, a.sshProblems(interfaces)...)
	list = append(list, a.nodeProblems()...)
	list = append(list, a.addressProblems()...)
	if a.bgpError != nil {
		list = append(list, &agentv1.Problem{Object: "BGP", Text: a.bgpError.Error()})
	}
	slices.SortFunc(list, func(x, y *agentv1.Problem) int { return strings.Compare(x.Object+x.Text, y.Object+y.Text) })
	return list
}

// idleGrace is the time that an endpoint may wait for its interface before that is a problem: machines start, and links come late.
const idleGrace = time.Minute

// idleProblems reports endpoints that govern no interface.
func idleProblems(interfaces []dataplane.Interface) (list []*agentv1.Problem) {
	for _, i := range interfaces {
		if i.Idle < idleGrace {
			continue
		}
		text := "it governs no interface, so its policies are in force nowhere: " + i.Reason + "; correct spec.interfaceName or spec.expectedIPs, or delete it"
		if i.Endpoint.Kind == api.KindWorkloadEndpoint {
			text = "it governs no interface: " + i.Reason + "; start its machine, correct spec.interfaceName, or delete it"
		}
		object := api.Key{Kind: i.Endpoint.Kind, Namespace: i.Endpoint.Namespace, Name: i.Endpoint.Name}
		list = append(list, &agentv1.Problem{Object: object.String(), Text: text})
	}
	return list
}

// nodeProblems reports faults of the node's name and addresses.
func (a *agent) nodeProblems() (list []*agentv1.Problem) {
	bgp := &a.state.BGP
	say := func(format string, about ...any) {
		list = append(list, &agentv1.Problem{
			Object: api.Key{Kind: api.KindNode, Name: a.settings.nodeName}.String(), Text: fmt.Sprintf(format, about...),
		})
	}
	for _, address := range []netip.Prefix{bgp.V4, bgp.V6} {
		if address.IsValid() && !slices.Contains(a.facts.Addresses, address.Addr()) {
			say("no interface of this machine has the node's address %v, so other nodes cannot reach it: give it to an interface, "+
				"or correct spec.bgp of the Node; felix fills in an address that is missing there", address.Addr())
		}
	}
	if twin := a.registrar.twinProblem(time.Now()); twin != "" {
		say("%s", twin)
	}
	if len(bgp.Peers) > 0 && !bgp.V4.IsValid() && !bgp.V6.IsValid() {
		say("the node has no address, so it announces no routes: felix has not found one; " +
			"give felix --ip or --ip-autodetection-method, or write it into spec.bgp of the Node")
	}
	return list
}

// configuration returns every setting of FelixConfiguration that has a value, and its source: the environment, or the name of the
// FelixConfiguration.
func (a *agent) configuration() map[string]string {
	shown := map[string]string{}
	for name, value := range a.state.Config.Raw {
		shown[name] = fmt.Sprintf("%s (%s)", value, a.state.Config.Sources[name])
	}
	return shown
}

func endpointName(id calc.EndpointID) string {
	if id.Namespace == "" {
		return id.Name
	}
	return id.Namespace + "/" + id.Name
}

// text returns an error in one line, with equal parts only once.
func text(err error) string {
	if err == nil {
		return ""
	}
	var parts []string
	for part := range strings.SplitSeq(err.Error(), "\n") {
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

func policyName(tier string, id calc.PolicyID) string {
	name := endpointName(calc.EndpointID{Namespace: id.Namespace, Name: id.Name})
	switch id.Kind {
	case api.KindProfile:
		return "profile " + name
	case calc.KindFailsafe:
		return "failsafe " + name
	}
	return fmt.Sprintf("%s/%s", tier, name)
}
