package vm

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// mostXML is the largest XML of a domain that is read, in bytes. libvirt's own limit is 10 MB.
const mostXML = 10 << 20

// domain is the part of a libvirt domain that endpoints depend on.
type domain struct {
	name       string
	uuid       string
	interfaces []nic
	metadata   *metadata // nil: the domain has none of ours
}

// nic is a network interface of a domain.
type nic struct {
	kind   string // ethernet, bridge, network, or another type of libvirt
	device string // on the host; empty before libvirt has made it
	mac    string
	vlan   bool
}

// onHost says whether the interface has a device on the host at which felix can judge packets.
func (n nic) onHost() bool { return n.kind == "ethernet" || n.kind == "bridge" || n.kind == "network" }

func (n nic) String() string {
	text := "interface of type " + n.kind
	if n.mac != "" {
		text += " with MAC address " + n.mac
	}
	return text
}

// readDomain reads the XML of a domain, as virsh dumpxml prints it and libvirt gives it to hooks.
func readDomain(from io.Reader) (*domain, error) {
	text, err := io.ReadAll(io.LimitReader(from, mostXML+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the domain's XML: %w", err)
	case len(text) > mostXML:
		return nil, fmt.Errorf("the domain's XML has more than %d bytes", mostXML)
	case strings.TrimSpace(string(text)) == "":
		return nil, errors.New("the domain's XML is empty: give the output of virsh dumpxml DOMAIN")
	}
	var parsed libvirtxml.Domain
	if err := parsed.Unmarshal(string(text)); err != nil {
		return nil, fmt.Errorf("this is not the XML of a domain: %w", err)
	}
	d := &domain{name: parsed.Name, uuid: parsed.UUID}
	if d.name == "" {
		return nil, errors.New("the domain's XML has no <name>")
	}
	if parsed.Devices != nil {
		for _, i := range parsed.Devices.Interfaces {
			d.interfaces = append(d.interfaces, nicOf(i))
		}
	}
	d.metadata, err = readMetadata(text)
	if err != nil {
		return nil, fmt.Errorf("metadata of domain %s: %w", d.name, err)
	}
	return d, nil
}

func nicOf(i libvirtxml.DomainInterface) nic {
	n := nic{kind: kindOf(i.Source), vlan: i.VLan != nil && len(i.VLan.Tags) > 0}
	if i.MAC != nil {
		n.mac = strings.ToLower(i.MAC.Address)
	}
	if i.Target != nil {
		n.device = i.Target.Dev
	}
	return n
}

func kindOf(source *libvirtxml.DomainInterfaceSource) string {
	switch {
	case source == nil:
		return "unknown"
	case source.Ethernet != nil:
		return "ethernet"
	case source.Bridge != nil:
		return "bridge"
	case source.Network != nil:
		return "network"
	case source.Direct != nil:
		return "direct"
	case source.Hostdev != nil:
		return "hostdev"
	case source.User != nil:
		return "user"
	case source.VHostUser != nil:
		return "vhostuser"
	case source.VDPA != nil:
		return "vdpa"
	}
	return "other"
}
