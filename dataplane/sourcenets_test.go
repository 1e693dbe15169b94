package dataplane

import (
	"net/netip"
	"os/exec"
	"testing"
)

// A VM has an address that another may take over (VRRP), which its endpoint names in allowSpoofedSourcePrefixes.
func TestAWorkloadSendsFromTheNetworksOfItsEndpoint(t *testing.T) {
	h := newHost(t)
	router, server := h.plug("cali1", "10.65.0.1"), h.plug("cali2", "10.65.0.2")
	const shared = "10.65.0.100"
	router.Up("eth0", shared+"/32")
	w := newWorld()
	id := w.workload(router)
	w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	h.Route(shared+"/32", "cali1")
	reaches := func() bool {
		_, err := router.Run(exec.Command("ping", "-c", "1", "-W", "1", "-I", shared, server.Addresses[0].String()))
		return err == nil
	}
	become := func(networks ...netip.Prefix) {
		ep := w.Endpoints[id]
		ep.SourceNets = networks
		w.Endpoints[id] = ep
		must(t, d.become(w))
	}
	if reaches() {
		t.Error("another address may send without permission")
	}
	become(netip.MustParsePrefix("10.65.0.96/28"))
	if reaches() || len(d.Status().Problems) != 1 {
		t.Errorf("a network of the endpoint counts without workloadSourceSpoofing: %v", d.Status().Problems)
	}
	w.Config.SourceNets = true
	must(t, d.become(w))
	if p := d.Status().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	if !reaches() {
		t.Error("an address in a network of the endpoint may not send")
	}
	become(netip.MustParsePrefix("10.65.0.112/28"))
	if reaches() {
		t.Error("an address beside the endpoint's network may send")
	}
	become()
	for network := range d.generations.newest().sourceNets.Held() {
		t.Errorf("%v stays in the table", network)
	}
}
