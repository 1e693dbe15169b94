package api

import "testing"

const storedEndpoint = `{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"vm--host1-openstack-vm--42-eth0","namespace":"prod","uid":"5f0c2b0e-7a1f-4a6e-9b51-0d9f6d1f1a01","creationTimestamp":"2026-08-20T10:15:30Z","labels":{"app":"db","projectcalico.org/namespace":"prod","projectcalico.org/orchestrator":"openstack"}},` +
	`"spec":{"orchestrator":"openstack","workload":"vm-42","node":"vm-host1","endpoint":"eth0","ipNetworks":["10.0.0.7/32"],"profiles":["kns.prod"],"interfaceName":"tap42","mac":"ee:ee:ee:ee:ee:ee","ports":[{"name":"pg","protocol":"TCP","port":5432,"hostPort":0,"hostIP":""}]}}`

func BenchmarkDecodeStored(b *testing.B) {
	text := []byte(storedEndpoint)

	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeStored("WorkloadEndpoint", text); err != nil {
			b.Fatal(err)
		}
	}
}
func BenchmarkValidate(b *testing.B) {
	o, _ := New("WorkloadEndpoint")
	w := o.(*WorkloadEndpoint)
	w.Spec = WorkloadEndpointSpec{Node: "n1", Orchestrator: "vmm", Workload: "w", Endpoint: "eth0", IPNetworks: []string{"10.0.0.1/32"}, InterfaceName: "tap1", MAC: "ee:ee:ee:ee:ee:ee"}
	Default(w)
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(w); err != nil {
			b.Fatal(err)
		}
	}
}
