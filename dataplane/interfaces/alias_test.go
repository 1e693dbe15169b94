package interfaces_test

import (
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// A workload endpoint may name the alias of an interface.
func TestAnEndpointGetsAnInterfaceByItsAlias(t *testing.T) {
	const (
		orphan   = "closed: no WorkloadEndpoint of this node names the interface: create one with this interfaceName, or correct interfacePrefix"
		rival    = `closed: its alias "web" names WorkloadEndpoint web, which governs `
		isUplink = "eth0 carries the host's default route: correct spec.interfaceName or interfacePrefix"
	)
	cali2Closed := "cali2: workload  " + rival + "cali1: give the interface another alias (ip link set cali2 alias NAME), or delete the endpoint or the interface"
	cali1Closed := "cali1: workload  " + rival + "cali2: give the interface another alias (ip link set cali1 alias NAME), or delete the endpoint or the interface"
	for _, test := range []struct {
		behaviour string
		aliases   map[int]string
		endpoints []calc.Endpoint
		rules     interfaces.Rules
		want      string
	}{
		{"the only interface with the alias", map[int]string{7: "web"}, []calc.Endpoint{workload("web", "web")}, interfaces.Rules{}, "cali2: workload web"},
		{"no other interface", map[int]string{7: "Web", 6: "web "}, []calc.Endpoint{workload("web", "web")}, interfaces.Rules{},
			"web idle: waiting for interface web"},
		{"an interface with the name wins over the alias", map[int]string{7: "cali1"}, []calc.Endpoint{workload("web", "cali1")}, interfaces.Rules{},
			"cali1: workload web"},
		{"an endpoint that names the interface wins over one that names its alias", map[int]string{6: "web"},
			[]calc.Endpoint{workload("a", "web"), workload("z", "cali1")}, interfaces.Rules{},
			"cali1: workload z\na idle: interface cali1 belongs to WorkloadEndpoint z"},
		{"of two interfaces the older one, and the other is closed", map[int]string{6: "web", 7: "web"},
			[]calc.Endpoint{workload("web", "web")}, interfaces.Rules{}, "cali1: workload web\n" + cali2Closed},
		{"of two interfaces the one where policy is in force", map[int]string{6: "web", 7: "web"},
			[]calc.Endpoint{workload("web", "web")}, interfaces.Rules{Enforced: map[int]bool{7: true}}, cali1Closed + "\ncali2: workload web"},
		{"of two interfaces the one that no other endpoint names", map[int]string{6: "web", 7: "web"},
			[]calc.Endpoint{workload("web", "web"), workload("db", "cali1")}, interfaces.Rules{}, "cali1: workload db\ncali2: workload web"},
		{"never an uplink", map[int]string{2: "web"}, []calc.Endpoint{workload("web", "web")}, interfaces.Rules{},
			"eth0: none  refused: " + isUplink + "\nweb idle: " + isUplink},
		{"the other interface if one of two is an uplink", map[int]string{2: "web", 7: "web"}, []calc.Endpoint{workload("web", "web")}, interfaces.Rules{},
			"cali2: workload web\neth0: none  refused: " + isUplink},
		{"never loopback, nor a port that carries an uplink", map[int]string{1: "web", 5: "web", 6: "web"}, []calc.Endpoint{workload("web", "web")},
			interfaces.Rules{Uplinks: map[string]string{"br0": "carries the host's default route"}},
			"cali1: workload web\n" +
				"eth2: none  refused: eth2 carries br0, which carries the host's default route: correct spec.interfaceName or interfacePrefix\n" +
				"lo: none  refused: lo is the host's loopback: correct spec.interfaceName or interfacePrefix"},
		{"an alias that no endpoint names means nothing", map[int]string{6: "web", 3: "uplink to the provider"}, nil, interfaces.Rules{}, ""},
		{"an empty alias is none", map[int]string{6: ""}, []calc.Endpoint{workload("web", "")}, interfaces.Rules{},
			"web idle: the endpoint names no interface: set spec.interfaceName"},
		{"a host endpoint does not get one", map[int]string{3: "web"}, []calc.Endpoint{host("web", "web")}, interfaces.Rules{},
			"web idle: waiting for interface web; this host has br0, cali1, cali2, eth0, eth1, eth2"},
		{"policy stays on an interface that loses its alias", nil, []calc.Endpoint{workload("web", "web")},
			interfaces.Rules{Enforced: map[int]bool{6: true}}, "cali1: workload  " + orphan + "\nweb idle: waiting for interface web"},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			links := aHost()
			for index, alias := range test.aliases {
				link := links[index]
				link.Alias = alias
				links[index] = link
			}
			if got := picture(links, test.endpoints, test.rules); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
