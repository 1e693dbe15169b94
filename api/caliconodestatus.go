package api

import "fmt"

// CalicoNodeStatus asks for the state of one node's agent, which the agent writes into its status.
type CalicoNodeStatus struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     CalicoNodeStatusSpec   `json:"spec"`
	Status   CalicoNodeStatusStatus `json:"status"`
}

type CalicoNodeStatusSpec struct {
	Node                string   `json:"node,omitempty"`                // whose agent is asked
	Classes             []string `json:"classes,omitempty"`             // Agent, BGP, Routes
	UpdatePeriodSeconds *uint32  `json:"updatePeriodSeconds,omitempty"` // 0: the status is not refreshed
}

// CalicoNodeStatusStatus is stored in full also when nothing has been reported.
type CalicoNodeStatusStatus struct {
	LastUpdated Time             `json:"lastUpdated"` // null: never
	Agent       NodeAgentStatus  `json:"agent"`       // when the class Agent is asked for
	BGP         NodeBGPStatus    `json:"bgp"`         // when the class BGP is asked for
	Routes      NodeRoutesStatus `json:"routes"`      // when the class Routes is asked for
}

type NodeAgentStatus struct {
	BIRDV4 BGPDaemonStatus `json:"birdV4"` // of the BGP speaker, for IPv4
	BIRDV6 BGPDaemonStatus `json:"birdV6"` // of the BGP speaker, for IPv6
}

type BGPDaemonStatus struct {
	State                   string `json:"state,omitempty"`                   // Ready, NotReady
	Version                 string `json:"version,omitempty"`                 // of the BGP speaker
	RouterID                string `json:"routerID,omitempty"`                // of the BGP speaker
	LastBootTime            string `json:"lastBootTime,omitempty"`            // when it started
	LastReconfigurationTime string `json:"lastReconfigurationTime,omitempty"` // when it last read its configuration
}

type NodeBGPStatus struct {
	NumberEstablishedV4    int              `json:"numberEstablishedV4"`    // sessions
	NumberNotEstablishedV4 int              `json:"numberNotEstablishedV4"` // sessions
	NumberEstablishedV6    int              `json:"numberEstablishedV6"`    // sessions
	NumberNotEstablishedV6 int              `json:"numberNotEstablishedV6"` // sessions
	PeersV4                []NodePeerStatus `json:"peersV4,omitempty"`      // sessions
	PeersV6                []NodePeerStatus `json:"peersV6,omitempty"`      // sessions
}

type NodePeerStatus struct {
	PeerIP string `json:"peerIP,omitempty"` // the peer's address
	Type   string `json:"type,omitempty"`   // NodeMesh, NodePeer, GlobalPeer
	State  string `json:"state,omitempty"`  // Idle, Connect, Active, OpenSent, OpenConfirm, Established, Close
	Since  string `json:"since,omitempty"`  // when it entered the state
}

type NodeRoutesStatus struct {
	RoutesV4 []NodeRoute `json:"routesV4,omitempty"` // of the node
	RoutesV6 []NodeRoute `json:"routesV6,omitempty"` // of the node
}

type NodeRoute struct {
	Type        string           `json:"type,omitempty"`        // FIB, RIB
	Destination string           `json:"destination,omitempty"` // a network
	Gateway     string           `json:"gateway,omitempty"`     // the next hop
	Interface   string           `json:"interface,omitempty"`   // where packets leave
	LearnedFrom *NodeRouteOrigin `json:"learnedFrom,omitempty"` // who told of it
}

type NodeRouteOrigin struct {
	SourceType string `json:"sourceType,omitempty"` // Kernel, Static, Direct, NodeMesh, BGPPeer
	PeerIP     string `json:"peerIP,omitempty"`     // for a peer, its address
}

// calicoNodeStatus leaves the status alone: it is the agent's.
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
