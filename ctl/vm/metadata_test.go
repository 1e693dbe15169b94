package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// withMetadata is a domain with two interfaces and this element in its metadata.
func withMetadata(element string) string {
	return `<domain type='qemu'><name>web</name><metadata>` + element + `</metadata><devices>
		<interface type='ethernet'><mac address='52:54:00:00:00:01'/><target dev='tap0'/></interface>
		<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/><target dev='tap1'/></interface>
	</devices></domain>`
}

// endpointsText describes the endpoints of a domain, one on each line.
func endpointsText(text string) (string, error) {
	d, err := readDomain(strings.NewReader(text))
	if err != nil {
		return "", err
	}
	wanted, err := d.wanted("host1", nil)
	var lines []string
	for _, w := range wanted {
		ep := w.Endpoint
		line := fmt.Sprintf("%s/%s %s %v %v %v", ep.Namespace, ep.Name, ep.Spec.InterfaceName, ep.Labels, ep.Spec.Profiles, ep.Spec.IPNetworks)
		if w.Request != nil {
			line += " " + w.Request.Text()
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n"), err
}

func TestMetadataDescribesEndpoints(t *testing.T) {
	t.Parallel()
	const open = `<workload xmlns='https://margay.io/libvirt/1'`
	for _, test := range []struct{ behaviour, element, want string }{
		{"nothing but the element", open + `/>`,
			"default/host1-libvirt-web-eth0 tap0 map[] [] []\ndefault/host1-libvirt-web-eth1 tap1 map[] [] []"},
		{"one setting for all", open + ` name='shop-1' namespace='shop' count='2' ipv6-count='1' ipam='auto'><label key='a' value='1'/><profile>p</profile><profile>q</profile></workload>`,
			`shop/host1-libvirt-shop--1-eth0 tap0 map[a:1] [p q] [] {"pools":[],"count":2,"ipv6Count":1}` + "\n" +
				`shop/host1-libvirt-shop--1-eth1 tap1 map[a:1] [p q] [] {"pools":[],"count":2,"ipv6Count":1}`},
		{"an interface wins over the workload", open + ` ipam='auto'><label key='a' value='1'/><label key='b' value=''/><profile>p</profile>
			<interface target='tap0'><label key='a' value='2'/><profile>q</profile><address> 10.0.0.7 </address></interface></workload>`,
			"default/host1-libvirt-web-eth0 tap0 map[a:2 b:] [q] [10.0.0.7]\n" +
				`default/host1-libvirt-web-eth1 tap1 map[a:1 b:] [p] [] {"pools":[],"count":1,"ipv6Count":0}`},
		{"only IPv6", open + `><interface mac='52:54:00:00:00:02' ipam='auto' ipv6-count='1' endpoint='six'/><interface mac='52:54:00:00:00:01' ignore='yes'/></workload>`,
			`default/host1-libvirt-web-six tap1 map[] [] [] {"pools":[],"count":0,"ipv6Count":1}`},
		{"an address of the workload for its only interface", open + `><address>10.0.0.7</address><interface target='tap1' ignore='yes'/></workload>`,
			"default/host1-libvirt-web-eth0 tap0 map[] [] [10.0.0.7]"},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			got, err := endpointsText(withMetadata(test.element))
			if err != nil || got != test.want {
				t.Errorf("got\n%s\n%v\nwant\n%s", got, err, test.want)
			}
		})
	}
}

func TestWrongMetadataIsRefused(t *testing.T) {
	t.Parallel()
	const open = `<workload xmlns='https://margay.io/libvirt/1'`
	for _, test := range []struct{ element, want string }{
		{`<workload xmlns='https://margay.io/libvirt/2'/>`, `<workload xmlns="https://margay.io/libvirt/2"> is not known: want <workload xmlns="https://margay.io/libvirt/1">`},
		{`<vm xmlns='https://margay.io/libvirt/1'/>`, `<vm xmlns="https://margay.io/libvirt/1"> is not known`},
		{open + `/>` + open + `/>`, "two elements <workload>"},
		{open + `><lable key='a' value='b'/></workload>`, "<lable> is not known: want label, profile, address, pool or interface"},
		{open + `><o:label xmlns:o='http://o/' key='a' value='b'/></workload>`, "<label> is not in the namespace https://margay.io/libvirt/1"},
		{open + ` nmae='web'/>`, "<workload> has no attribute nmae"},
		{open + ` ipam='yes'/>`, `ipam is "yes": want auto`},
		{open + ` ipam='auto' count='many'/>`, `count is "many": want a number`},
		{open + ` ipam='auto' count='-1'/>`, `count is "-1": want a number`},
		{open + ` ipam='auto' count='0'/>`, "it asks for no address"},
		{open + ` count='2'/>`, "count and ipv6-count say how many addresses IPAM chooses"},
		{open + ` ipam='auto'><address>10.0.0.7</address></workload>`, "not both"},
		{open + `>role=web</workload>`, `holds the text "role=web": want elements only`},
		{open + `><label key='a'>b</label></workload>`, "<label> needs the attributes key and value"},
		{open + `><label value='a'/></workload>`, "<label> needs the attributes key and value"},
		{open + `><label key='a' value='1'/><label key='a' value='2'/></workload>`, "key a is there twice"},
		{open + `><label key='a' value='1' when='later'/></workload>`, "<label> has no attribute when"},
		{open + `><profile/></workload>`, "<profile> is empty"},
		{open + `><profile name='vm'/></workload>`, "<profile> has no attribute name: write <profile>VALUE</profile>"},
		{open + `><profile><label/></profile></workload>`, "<profile> may hold no other element"},
		{open + `><address>10.0.0.7</address></workload>`, "there are 2 interfaces: put it into an <interface>"},
		{open + `><interface/></workload>`, "<interface> needs one of the attributes mac and target"},
		{open + `><interface mac='a' target='b'/></workload>`, "<interface> needs one of the attributes mac and target"},
		{open + `><interface mac='52:54:00:00:00:09'/></workload>`, "<interface> is about 52:54:00:00:00:09, which the domain does not have"},
		{open + `><interface mac='52:54:00:00:00:01'/><interface target='tap0'/></workload>`, "two elements <interface> are about the same one"},
		{open + `><interface target='tap0' ignore='maybe'/></workload>`, `ignore is "maybe": want yes or no`},
		{open + `><interface target='tap0'><interface/></interface></workload>`, "<interface> is not known: want label, profile, address or pool"},
		{open + `><interface target='tap0'><address>10.0.0.0/24</address></interface></workload>`, `<address>: "10.0.0.0/24" is not one address`},
	} {
		got, err := endpointsText(withMetadata(test.element))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\n%s\n%v\nwant %s", test.element, got, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), "domain web") {
			t.Errorf("%v does not name the domain", err)
		}
	}
}

// A VLAN is set at the port of a bridge. A routed interface has none.
func TestARoutedInterfaceHasNoVLAN(t *testing.T) {
	t.Parallel()
	const vlan = `<vlan><tag id='20'/></vlan>`
	text := withMetadata(`<workload xmlns='https://margay.io/libvirt/1'/>`)
	if _, err := endpointsText(strings.Replace(text, "<target dev='tap1'/>", "<target dev='tap1'/>"+vlan, 1)); err != nil {
		t.Error(err)
	}
	_, err := endpointsText(strings.Replace(text, "<target dev='tap0'/>", "<target dev='tap0'/>"+vlan, 1))
	if err == nil || !strings.Contains(err.Error(), "has a <vlan>, but a routed interface has no VLAN") {
		t.Error(err)
	}
}

// An interface keeps the name of its endpoint when others come and go.
func TestEndpointsKeepTheirNames(t *testing.T) {
	t.Parallel()
	d := &domain{name: "web", metadata: &metadata{}, interfaces: []nic{{mac: "c"}, {mac: "a"}, {mac: "d"}}}
	stored := func(mac, name string) *api.WorkloadEndpoint {
		return &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{MAC: mac, Endpoint: name}}
	}
	got := d.endpointNames([]*api.WorkloadEndpoint{stored("a", "eth0"), stored("b", "eth1"), stored("d", "eth2")})
	if want := map[int]string{0: "eth1", 1: "eth0", 2: "eth2"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
