package calc

import "github.com/margay-project/margay/api"

// gracefulShutdown is the community by which peers prefer every other path (RFC 8326).
const gracefulShutdown = "65535:0"

// readDrain reads whether an operator takes the node out of service. It is a problem as long as it lasts, so it is not forgotten.
func (r *bgpReader) readDrain(about api.Key, n *api.Node) {
	const back = ": when the maintenance is over, run margayctl node undrain"
	switch state, there := n.Annotations[api.DrainAnnotation]; {
	case !there:
	case state == api.Draining:
		r.draining = true
		r.note(about, "the node drains: its routes are announced with the community GRACEFUL_SHUTDOWN%s %s", back, r.node)
	case state == api.Drained:
		r.drained = true
		r.note(about, "the node is drained: it announces no routes%s %s", back, r.node)
	default:
		r.note(about, "the annotation %s is %q, which has no effect: want %s or %s, or remove it", api.DrainAnnotation, state, api.Draining, api.Drained)
	}
}
