package main

import (
	"context"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// nodes warns of objects for a node that does not exist: no agent uses them.
func (v *view) nodes(ctx context.Context) {
	exists := v.existence(ctx, api.KindNode, func(o api.Object) []string { return []string{nodeOf(o)} })
	for _, o := range v.written {
		node := nodeOf(o)
		if node == "" || exists(node) {
			continue
		}
		effect := "this endpoint protects nothing"
		switch o.(type) {
		case *api.WorkloadEndpoint:
			effect = "nothing reaches this endpoint and no policy judges it"
		case *api.BGPPeer:
			effect = "no node speaks BGP with this peer"
		case *api.FelixConfiguration:
			effect = "nobody uses these settings"
		}
		v.add(o, "there is no Node %s, so %s until felix runs under that name; margayctl get nodes lists the existing nodes", node, effect)
	}
}

// nodeOf returns the name of the only node that an object is for; empty if it is not for a single node.
func nodeOf(o api.Object) string {
	switch o := o.(type) {
	case *api.HostEndpoint:
		return o.Spec.Node
	case *api.WorkloadEndpoint:
		return o.Spec.Node
	case *api.BGPPeer:
		return o.Spec.Node
	case *api.FelixConfiguration:
		if name, ok := strings.CutPrefix(o.Name, "node."); ok {
			return name
		}
	}
	return ""
}

// nodeSelectors warns of objects whose node selector selects no node.
func (v *view) nodeSelectors(ctx context.Context) {
	asking := v.which(func(o api.Object) bool { text, _ := nodesOf(o); return text != "" })
	if len(asking) == 0 || !v.read(ctx, api.KindNode) {
		return
	}
	for _, o := range asking {
		text, effect := nodesOf(o)
		s, err := selector.Parse(text)
		if err != nil || s.IsAll() || slices.ContainsFunc(v.updates(), func(u api.Update) bool {
			node, ok := u.Object.(*api.Node)
			return ok && s.Matches(selector.Map(node.Labels))
		}) {
			continue
		}
		v.add(o, "spec.nodeSelector selects no existing Node, so %s; margayctl get nodes -o yaml shows the labels of the nodes", effect)
	}
}

// nodesOf returns the selector of the nodes that an object is for, and the effect if it selects no node.
func nodesOf(o api.Object) (text, effect string) {
	switch o := o.(type) {
	case *api.IPPool:
		return o.Spec.NodeSelector, "no node gives its workloads addresses of the pool"
	case *api.BGPPeer:
		return o.Spec.NodeSelector, "no node speaks BGP with this peer"
	case *api.FelixConfiguration:
		return o.Spec.NodeSelector, "no node uses these settings"
	}
	return "", ""
}

// profiles warns of endpoints that name a profile that does not exist.
func (v *view) profiles(ctx context.Context) {
	exists := v.existence(ctx, api.KindProfile, profilesOf)
	for _, o := range v.written {
		for _, name := range profilesOf(o) {
			if name != defaultAllow && !exists(name) {
				v.add(o, "there is no Profile %s, and a missing profile denies everything that no policy decides: create it, "+
					"or remove it from spec.profiles", name)
			}
		}
	}
}

// defaultAllow is a built-in profile, which is never stored.
const defaultAllow = "projectcalico-default-allow"

func profilesOf(o api.Object) []string {
	switch o := o.(type) {
	case *api.HostEndpoint:
		return o.Spec.Profiles
	case *api.WorkloadEndpoint:
		return o.Spec.Profiles
	}
	return nil
}

// doubles warns of several host endpoints for one interface. Only the first by name governs it.
func (v *view) doubles(ctx context.Context) {
	type hostInterface struct{ node, interfaceName string }
	interfaceOf := func(o api.Object) (p hostInterface, ok bool) {
		h, ok := o.(*api.HostEndpoint)
		if !ok || h.Spec.InterfaceName == "" {
			return p, false
		}
		return hostInterface{h.Spec.Node, h.Spec.InterfaceName}, true
	}
	hosts := v.which(func(o api.Object) bool { _, ok := interfaceOf(o); return ok })
	if len(hosts) == 0 || !v.read(ctx, api.KindHostEndpoint) {
		return
	}
	names := map[hostInterface][]string{}
	for _, u := range v.updates() {
		if p, ok := interfaceOf(u.Object); ok {
			names[p] = append(names[p], u.Key.Name)
		}
	}
	for _, o := range hosts {
		p, _ := interfaceOf(o)
		all := slices.Sorted(slices.Values(names[p]))
		switch {
		case len(all) < 2:
		case all[0] == o.Meta().Name:
			v.add(o, "it takes the interface %s of node %s from HostEndpoint(%s), because its name comes first: remove one of them", p.interfaceName, p.node, all[1])
		default:
			v.add(o, "it has no effect, because HostEndpoint(%s) is for the same interface %s of node %s and its name comes first: remove one of them",
				all[0], p.interfaceName, p.node)
		}
	}
}
