package interfaces

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VLANs are those of a port of a bridge that filters VLANs (ip link set br0 type bridge vlan_filtering 1; bridge vlan show).
type VLANs struct {
	Untagged uint16   // of frames without a tag (PVID); 0: none
	Tagged   []uint16 // of which frames have a tag; sorted
}

func (v VLANs) equal(o VLANs) bool {
	return v.Untagged == o.Untagged && slices.Equal(v.Tagged, o.Tagged)
}

func (v VLANs) String() string {
	var parts []string
	if v.Untagged != 0 {
		parts = append(parts, fmt.Sprintf("VLAN %d", v.Untagged))
	}
	if len(v.Tagged) > 0 {
		parts = append(parts, "tagged "+ranges(v.Tagged))
	}
	if len(parts) == 0 {
		return "no VLAN"
	}
	return strings.Join(parts, ", ")
}

// ranges writes sorted numbers, such as 5, 20-30.
func ranges(numbers []uint16) string {
	var parts []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		text := fmt.Sprint(numbers[i])
		if end > i {
			text += fmt.Sprintf("-%d", numbers[end])
		}
		parts, i = append(parts, text), end+1
	}
	return strings.Join(parts, ", ")
}

// tellVLANs says whether a message is about ports of bridges: the kernel sends one when the VLANs of a port change.
func tellVLANs(m syscall.NetlinkMessage) bool {
	return (m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK) && len(m.Data) > 0 && m.Data[0] == unix.AF_BRIDGE
}

// filtersVLANs says whether an interface is a bridge that keeps VLANs apart.
func filtersVLANs(described netlink.Link) bool {
	bridge, is := described.(*netlink.Bridge)
	return is && bridge.VlanFiltering != nil && *bridge.VlanFiltering
}

// withVLANs returns the interfaces with the VLANs of those that are ports of a bridge that filters them. It asks the kernel only if there is
// such a bridge.
func withVLANs(links Links, read func() (map[int32][]*nl.BridgeVlanInfo, error)) (Links, error) {
	filters := func(l Link) bool { return links[l.Master].FiltersVLANs }
	next := maps.Clone(links)
	var found map[int32][]*nl.BridgeVlanInfo
	for index, l := range next {
		l.VLANs = VLANs{}
		if filters(l) && found == nil {
			var err error
			if found, err = readWhole(read); err != nil {
				return links, fmt.Errorf("read the VLANs of bridge ports: %w", err)
			}
		}
		if filters(l) {
			l.VLANs = vlansOf(found[int32(index)])
		}
		next[index] = l
	}
	return next, nil
}

// readWhole reads the VLANs again if they changed while they were read.
func readWhole(read func() (map[int32][]*nl.BridgeVlanInfo, error)) (found map[int32][]*nl.BridgeVlanInfo, err error) {
	for range 5 {
		if found, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if found == nil {
		found = map[int32][]*nl.BridgeVlanInfo{}
	}
	return found, err
}

func vlansOf(list []*nl.BridgeVlanInfo) (v VLANs) {
	for _, info := range list {
		if info.Flags&nl.BRIDGE_VLAN_INFO_PVID != 0 {
			v.Untagged = info.Vid
		}
		if info.Flags&nl.BRIDGE_VLAN_INFO_UNTAGGED == 0 {
			v.Tagged = append(v.Tagged, info.Vid)
		}
	}
	slices.Sort(v.Tagged)
	return v
}
