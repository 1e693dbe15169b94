package api

import "strings"

// IPReservation keeps addresses of pools from being allocated.
type IPReservation struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPReservationSpec `json:"spec"`
}

// IPReservationSpec lists the reserved addresses.
type IPReservationSpec struct {
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"` // CIDRs that are never allocated
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
