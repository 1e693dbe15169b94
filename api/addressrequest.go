package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// HandlePrefix begins the IPAM handles of the addresses of WorkloadEndpoints that agents keep records for.
const HandlePrefix = "margay."

// AddressAnnotation is the annotation by which a WorkloadEndpoint without ipNetworks asks the agent of its node for addresses. Its value
// is an AddressRequest in JSON.
const AddressAnnotation = "margay.io/ipam"

// AddressRequest says how many addresses a WorkloadEndpoint wants, and from which pools.
type AddressRequest struct {
	Pools     []string `json:"pools"`     // names of IPPools; empty: every enabled pool that selects the node and the namespace
	Count     int      `json:"count"`     // number of IPv4 addresses; 1 if neither count is there
	IPv6Count int      `json:"ipv6Count"` // number of IPv6 addresses
}

// mostRequested is the largest number of addresses of one family that an endpoint may ask for.
const mostRequested = 64

// AddressRequestOf returns the request of an endpoint for addresses. asks is false if it has ipNetworks, or no annotation.
func AddressRequestOf(w *WorkloadEndpoint) (request AddressRequest, asks bool, err error) {
	text, there := w.Annotations[AddressAnnotation]
	if !there || len(w.Spec.IPNetworks) > 0 {
		return AddressRequest{}, false, nil
	}
	request, err = parseAddressRequest(text)
	if err != nil {
		err = fmt.Errorf(`%w: want JSON such as {"pools": ["vms"], "count": 1, "ipv6Count": 0}, or {} for one IPv4 address`, err)
	}
	return request, true, err
}

func parseAddressRequest(text string) (AddressRequest, error) {
	var r AddressRequest
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return r, err
	}
	if fields == nil {
		return r, errors.New("it is null")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) { // the decoder takes other spellings, such as Count, for the same fields
		if name != "pools" && name != "count" && name != "ipv6Count" {
			return r, fmt.Errorf("unknown field %q", name)
		}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return r, err
	}
	_, four := fields["count"]
	if _, six := fields["ipv6Count"]; !four && !six {
		r.Count = 1
	}
	return r, r.Check()
}

// Check says what is wrong with a request; nil if nothing is.
func (r AddressRequest) Check() error {
	for _, pool := range r.Pools {
		if !isName(pool, 253) {
			return fmt.Errorf("pools: %q is not the name of an IPPool", pool)
		}
	}
	switch {
	case r.Count < 0 || r.Count > mostRequested:
		return fmt.Errorf("count is %d, want 0 to %d", r.Count, mostRequested)
	case r.IPv6Count < 0 || r.IPv6Count > mostRequested:
		return fmt.Errorf("ipv6Count is %d, want 0 to %d", r.IPv6Count, mostRequested)
	case r.Count+r.IPv6Count == 0:
		return errors.New("it asks for no address")
	}
	return nil
}

// Text returns the request as the value of the annotation.
func (r AddressRequest) Text() string {
	if r.Pools == nil {
		r.Pools = []string{}
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // text and numbers can always be encoded
	}
	return string(text)
}
