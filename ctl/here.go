package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// nodeName returns the name of this machine's node: that of $FELIX_NODENAME, that which the agent on this machine says, that of the
// Node whose address this machine has, or else the host's name.
func (s *session) nodeName(ctx context.Context, st store) (string, error) {
	if name := s.getenv("FELIX_NODENAME"); name != "" {
		return name, nil
	}
	var name string
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := s.askAgent(short, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		name = answer.GetNode()
		return err
	})
	if err == nil && name != "" {
		return name, nil
	}
	objects, _, err := st.List(ctx, api.KindNode, "")
	if err != nil {
		return "", err
	}
	var nodes []api.Update
	for _, o := range objects {
		nodes = append(nodes, api.Update{Key: api.KeyOf(o), Object: o})
	}
	return nodeHere(nodes, s.interfaces()), nil
}

// linksHere returns the names, alternative names and aliases of this machine's interfaces.
func linksHere() (map[string]bool, error) {
	answer, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces of this machine: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces of this machine: %w", err)
	}
	found := map[string]bool{}
	for _, m := range messages {
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil || m.Header.Type != syscall.RTM_NEWLINK {
			continue
		}
		for _, a := range attributes {
			switch a.Attr.Type &^ unix.NLA_F_NESTED {
			case unix.IFLA_IFNAME, unix.IFLA_IFALIAS:
				found[text(a.Value)] = true
			case unix.IFLA_PROP_LIST:
				for _, name := range alternativeNames(a.Value) {
					found[name] = true
				}
			}
		}
	}
	delete(found, "")
	return found, nil
}

// alternativeNames reads the attribute IFLA_PROP_LIST (rtnl_fill_prop_list in net/core/rtnetlink.c).
func alternativeNames(list []byte) (names []string) {
	const header = unix.SizeofNlAttr
	for len(list) >= header {
		length := int(binary.NativeEndian.Uint16(list))
		if length < header || length > len(list) {
			break
		}
		if binary.NativeEndian.Uint16(list[2:]) == unix.IFLA_ALT_IFNAME {
			names = append(names, text(list[header:length]))
		}
		list = list[min(len(list), (length+3)&^3):]
	}
	return names
}

// text returns a text that the kernel ends with a zero byte.
func text(value []byte) string {
	name, _, _ := strings.Cut(string(value), "\x00")
	return name
}
