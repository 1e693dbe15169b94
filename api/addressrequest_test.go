package api

import (
	"fmt"
	"strings"
	"testing"
)

func TestAddressRequests(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{`{}`, "[] 1 0"},
		{`{"count":2}`, "[] 2 0"},
		{`{"ipv6Count":1}`, "[] 0 1"},
		{`{"pools":["vms","six"],"count":1,"ipv6Count":1}`, "[vms six] 1 1"},
		{` { "pools" : [ "vms" ] } `, "[vms] 1 0"},
		{``, "unexpected end of JSON input"},
		{`[]`, "cannot unmarshal array"},
		{`vms`, "invalid character 'v'"},
		{`null`, "it is null"},
		{`{"Count":3}`, `unknown field "Count"`},
		{`{"count":1,"IPv6count":3}`, `unknown field "IPv6count"`},
		{`{} {}`, "invalid character '{' after top-level value"},
		{`{"pool":"vms"}`, `unknown field "pool"`},
		{`{"count":"1"}`, "cannot unmarshal string"},
		{`{"count":0}`, "it asks for no address"},
		{`{"count":-1}`, "count is -1, want 0 to 64"},
		{`{"count":65}`, "count is 65, want 0 to 64"},
		{`{"ipv6Count":65}`, "ipv6Count is 65, want 0 to 64"},
		{`{"pools":["a b"]}`, `"a b" is not the name of an IPPool`},
	} {
		w := &WorkloadEndpoint{Metadata: Metadata{Annotations: map[string]string{AddressAnnotation: test.text}}}
		request, asks, err := AddressRequestOf(w)
		got := fmt.Sprint(request.Pools, request.Count, request.IPv6Count)
		if err != nil {
			got = err.Error()
			if !strings.HasSuffix(got, "or {} for one IPv4 address") {
				t.Errorf("%s: %s does not say what is wanted", test.text, got)
			}
		}
		if !asks || err == nil && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", test.text, got, test.want)
		}
		w.Spec.IPNetworks = []string{"10.0.0.1"}
		if _, asks, err := AddressRequestOf(w); asks || err != nil {
			t.Errorf("%s: an endpoint with addresses asks for some (%v)", test.text, err)
		}
	}
	if _, asks, _ := AddressRequestOf(&WorkloadEndpoint{}); asks {
		t.Error("an endpoint without the annotation asks for addresses")
	}
}
