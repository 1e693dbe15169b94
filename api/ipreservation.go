package api

import "strings"

// IPReservation keeps addresses of pools from being given to workloads.
type IPReservation struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPReservationSpec `json:"spec"`
}

type IPReservationSpec struct {
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"` // CIDRs or addresses
}

func (c *checker) ipReservation(r *IPReservation) {
	c.name(r.Name, 127)
	for i, text := range r.Spec.ReservedCIDRs {
		p, err := ParseNet(text)
		switch path := at("spec.reservedCIDRs", i); {
		case err != nil:
			c.add(path, text, "want a CIDR such as 10.0.0.0/30 or fd00::/126")
		case !strings.Contains(text, "/"):
			c.add(path, text, "want a CIDR: did you mean %s?", p)
		}
	}
}
