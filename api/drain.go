package api

// DrainAnnotation of a Node takes the node's routes out of BGP before maintenance.
const DrainAnnotation = "margay.io/drain"

// Values of DrainAnnotation.
const (
	Draining = "draining" // routes are announced with the community GRACEFUL_SHUTDOWN (RFC 8326), so peers prefer others
	Drained  = "drained"  // no routes are announced
)
