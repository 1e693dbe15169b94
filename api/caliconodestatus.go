package api

import "fmt"

// CalicoNodeStatus asks the agent of one node to write its state into the object's status.
type CalicoNodeStatus struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     CalicoNodeStatusSpec   `json:"spec"`
	Status   CalicoNodeStatusStatus `json:"status"`
}

// CalicoNodeStatusSpec says which node reports what, and how often.
type CalicoNodeStatusSpec struct {
	Node                string   `json:"node,omitempty"`                // name of the node
	Classes             []string `json:"classes,omitempty"`             // parts of the status to fill in, at least one: Agent, BGP, Routes
	UpdatePeriodSeconds *uint32  `json:"updatePeriodSeconds,omitempty"` // seconds between two updates of the status, at most 86400; 0: the status is written once
}

// CalicoNodeStatusStatus is the reported state. It is stored with all its fields, even before the first report.
type CalicoNodeStatusStatus struct {
	LastUpdated Time             `json:"lastUpdated"` // time of the last report; null if there was none
	Agent       NodeAgentStatus  `json:"agent"`       // filled in for the class Agent
	BGP         NodeBGPStatus    `json:"bgp"`         // filled in for the class BGP
	Routes      NodeRoutesStatus `json:"routes"`      // filled in for the class Routes
}

// NodeAgentStatus is the state of the node's BGP speakers. Calico runs one for each family.
type NodeAgentStatus struct {
	BIRDV4 BGPDaemonStatus `json:"birdV4"` // state of the BGP speaker for IPv4
	BIRDV6 BGPDaemonStatus `json:"birdV6"` // state of the BGP speaker for IPv6
}

// BGPDaemonStatus is the state of one BGP speaker.
type BGPDaemonStatus struct {
	State                   string `json:"state,omitempty"`                   // Ready, NotReady
	Version                 string `json:"version,omitempty"`                 // version of the BGP speaker
	RouterID                string `json:"routerID,omitempty"`                // router ID of the BGP speaker
	LastBootTime            string `json:"lastBootTime,omitempty"`            // time at which it started
	LastReconfigurationTime string `json:"lastReconfigurationTime,omitempty"` // time at which it last read its configuration
}

// NodeBGPStatus lists the BGP sessions of a node.
type NodeBGPStatus struct {
	NumberEstablishedV4    int              `json:"numberEstablishedV4"`    // number of established IPv4 sessions
	NumberNotEstablishedV4 int              `json:"numberNotEstablishedV4"` // number of other IPv4 sessions
	NumberEstablishedV6    int              `json:"numberEstablishedV6"`    // number of established IPv6 sessions
	NumberNotEstablishedV6 int              `json:"numberNotEstablishedV6"` // number of other IPv6 sessions
	PeersV4                []NodePeerStatus `json:"peersV4,omitempty"`      // the IPv4 sessions
	PeersV6                []NodePeerStatus `json:"peersV6,omitempty"`      // the IPv6 sessions
}

// NodePeerStatus is the state of one BGP session.
type NodePeerStatus struct {
	PeerIP string `json:"peerIP,omitempty"` // the peer's address
	Type   string `json:"type,omitempty"`   // origin of the session: NodeMesh, NodePeer (a BGPPeer for this node) or GlobalPeer (a BGPPeer for every node)
	State  string `json:"state,omitempty"`  // Idle, Connect, Active, OpenSent, OpenConfirm, Established, Close
	Since  string `json:"since,omitempty"`  // time at which it entered the state
}

// NodeRoutesStatus lists the routes of a node.
type NodeRoutesStatus struct {
	RoutesV4 []NodeRoute `json:"routesV4,omitempty"` // IPv4 routes
	RoutesV6 []NodeRoute `json:"routesV6,omitempty"` // IPv6 routes
}

// NodeRoute is one route of a node.
type NodeRoute struct {
	Type        string           `json:"type,omitempty"`        // FIB (in the kernel) or RIB (known to the BGP speaker only)
	Destination string           `json:"destination,omitempty"` // a network
	Gateway     string           `json:"gateway,omitempty"`     // the next hop
	Interface   string           `json:"interface,omitempty"`   // interface by which packets leave
	LearnedFrom *NodeRouteOrigin `json:"learnedFrom,omitempty"` // origin of the route
}

// NodeRouteOrigin says where a route was learned.
type NodeRouteOrigin struct {
	SourceType string `json:"sourceType,omitempty"` // Kernel, Static, Direct, NodeMesh, BGPPeer
	PeerIP     string `json:"peerIP,omitempty"`     // address of the peer, if the route was learned from one
}

// calicoNodeStatus does not check the status: the agent writes it.
func (c *checker) calicoNodeStatus(n *CalicoNodeStatus) {
	c.name(n.Name, 127)
	c.nodeName("spec.node", n.Spec.Node)
	if len(n.Spec.Classes) == 0 {
		c.add("spec.classes", "", "missing: want one or more of Agent, BGP, Routes")
	}
	for i, class := range n.Spec.Classes {
		c.oneOf(at("spec.classes", i), class, "Agent", "BGP", "Routes")
		if class == "" {
			c.add(at("spec.classes", i), "", "want Agent, BGP or Routes")
		}
	}
	unique(c, "spec.classes", n.Spec.Classes)
	const day = 24 * 60 * 60
	switch period := n.Spec.UpdatePeriodSeconds; {
	case period == nil:
		c.add("spec.updatePeriodSeconds", "", "missing: want 0 to %d", day)
	case *period > day:
		c.add("spec.updatePeriodSeconds", fmt.Sprint(*period), "want 0 to %d", day)
	}
}
