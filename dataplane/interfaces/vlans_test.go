package interfaces

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// The VLANs of ports are read if their bridge filters VLANs, and shown in words.
func TestVLANsOfPorts(t *testing.T) {
	const pvid, untagged = nl.BRIDGE_VLAN_INFO_PVID, nl.BRIDGE_VLAN_INFO_UNTAGGED
	for want, list := range map[string][]*nl.BridgeVlanInfo{
		"VLAN 20":                 {{Vid: 20, Flags: pvid | untagged}},
		"VLAN 1, tagged 5, 20-22": {{Vid: 22}, {Vid: 1, Flags: pvid | untagged}, {Vid: 20}, {Vid: 5}, {Vid: 21}},
		"tagged 7":                {{Vid: 7}},
		"VLAN 3, tagged 3":        {{Vid: 3, Flags: pvid}}, // untagged frames come in, and all go out with a tag
		"no VLAN":                 nil,
		"VLAN 9, tagged 10":       {{Vid: 9, Flags: pvid | untagged}, {Vid: 8, Flags: untagged}, {Vid: 10}},
	} {
		links := Links{1: {Index: 1, Name: "br0", Kind: "bridge", FiltersVLANs: true}, 2: {Index: 2, Name: "tap0", Master: 1}, 3: {Index: 3, Name: "eth0"}}
		got, err := withVLANs(links, func() (map[int32][]*nl.BridgeVlanInfo, error) {
			return map[int32][]*nl.BridgeVlanInfo{2: list, 3: {{Vid: 1}}}, nil
		})
		if err != nil || got[2].VLANs.String() != want || !got[3].VLANs.equal(VLANs{}) {
			t.Errorf("%v: %v %v, want %s", err, got[2].VLANs, got[3].VLANs, want)
		}
		if links[2].VLANs.Untagged != 0 || links[2].VLANs.Tagged != nil {
			t.Error("the former interfaces have changed")
		}
	}
}

func TestVLANsThatCannotBeReadStay(t *testing.T) {
	links := Links{1: {Index: 1, Kind: "bridge", FiltersVLANs: true}, 2: {Index: 2, Master: 1, VLANs: VLANs{Untagged: 4}}}
	got, err := withVLANs(links, func() (map[int32][]*nl.BridgeVlanInfo, error) { return nil, errors.New("no") })
	if err == nil || got[2].VLANs.Untagged != 4 {
		t.Errorf("%v %v", got, err)
	}
}

// Nobody asks the kernel on a host whose bridges filter no VLANs.
func TestVLANsAreReadOnlyWhereABridgeFiltersThem(t *testing.T) {
	off, on := false, true
	for _, bridge := range []*netlink.Bridge{{}, {VlanFiltering: &off}} {
		links := Links{1: {Index: 1, Kind: "bridge", FiltersVLANs: filtersVLANs(bridge)}, 2: {Index: 2, Master: 1}}
		if _, err := withVLANs(links, func() (map[int32][]*nl.BridgeVlanInfo, error) { return nil, errors.New("asked") }); err != nil {
			t.Error(err)
		}
	}
	if !filtersVLANs(&netlink.Bridge{VlanFiltering: &on}) || filtersVLANs(&netlink.Veth{}) {
		t.Error("a bridge that filters VLANs is not recognised, or something else is taken for one")
	}
}
