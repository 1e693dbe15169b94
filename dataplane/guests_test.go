package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// blank plugs a VM without addresses or routes. Its endpoint has these addresses, and its clients may ask for them.
func (h *host) blank(w world, iface string, addresses ...string) *vm {
	h.Helper()
	m := h.plug(iface)
	for _, a := range addresses {
		m.Addresses = append(m.Addresses, netip.MustParseAddr(a))
	}
	w.workload(m)
	return m
}

// script writes a program that a DHCP client calls with the answer in its environment.
func (h *host) script(text string) string {
	h.Helper()
	path := filepath.Join(h.TempDir(), "script")
	must(h, os.WriteFile(path, []byte("#!/bin/sh\nset -e\n"+text), 0o700))
	return path
}

// udhcpc gets an IPv4 address as the client of busybox does. It returns the settings that the script was given.
func (m *vm) udhcpc(arguments ...string) (settings string, err error) {
	m.h.Helper()
	log := filepath.Join(m.h.TempDir(), "log")
	script := m.h.script(`[ "$1" = bound ] || exit 0
env >` + log + `
ip addr add $ip/$mask dev $interface
set -- $staticroutes
while [ $# -ge 2 ]; do
	if [ $2 = 0.0.0.0 ]; then ip route add $1 dev $interface; else ip route add $1 via $2 dev $interface; fi
	shift 2
done
`)
	arguments = append([]string{"-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "2", "-s", script, "-O", "staticroutes", "-O", "mtu", "-O", "hostname"}, arguments...)
	output, err := m.Run(exec.Command("udhcpc", arguments...))
	m.h.Logf("udhcpc: %v\n%s", err, output)
	text, _ := os.ReadFile(log)
	return string(text), err
}

// dhclient6 starts ISC's client and waits until it has an IPv6 address.
func (m *vm) dhclient6(address string) {
	m.h.Helper()
	dir := m.h.TempDir()
	script := m.h.script(`case $reason in
BOUND6|REBIND6|REBOOT6) ip addr replace $new_ip6_address/$new_ip6_prefixlen dev $interface ;;
esac
`)
	empty := filepath.Join(dir, "conf")
	must(m.h, os.WriteFile(empty, nil, 0o600))
	client := exec.Command("dhclient", "-6", "-d", "-cf", empty, "-sf", script, "-lf", filepath.Join(dir, "leases"), "--no-pid", "eth0")
	said := &lab.Output{}
	client.Stdout, client.Stderr = said, said
	m.Start(client)
	lab.Await(m.h, func() error {
		if has := m.MustRun("ip", "-6", "addr", "show", "dev", "eth0"); !strings.Contains(has, address+"/128 ") {
			return fmt.Errorf("no %s: %s\n%s", address, has, said)
		}
		return nil
	})
}

func needClients(t *testing.T) {
	t.Helper()
	for _, name := range []string{"udhcpc", "dhclient"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatal(err, ": make test installs it")
		}
	}
}

func TestAWorkloadGetsItsAddressesFromTheAgent(t *testing.T) {
	needClients(t)
	h := newHost(t)
	w := newWorld()
	w.Config.DHCP = true
	w.Config.Resolvers = calc.Resolvers{Set: true, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}
	guest := h.blank(w, "cali1", "10.65.0.1", "fd00:65::1")
	server := h.plug("cali2", "10.65.0.2", "fd00:65::2")
	server.Echo(80)
	id := w.workload(server)
	w.protect(id, 80)
	ep := w.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: "cali1"}]
	ep.Hostname = "web-1"
	w.Endpoints[ep.ID] = ep
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()

	settings, err := guest.udhcpc()
	must(t, err)
	for _, want := range []string{"ip=10.65.0.1\n", "mask=32\n", "router=169.254.1.1\n", "dns=192.0.2.53\n", "hostname=web-1\n", "mtu=1500\n", "lease=86400\n"} {
		if !strings.Contains(settings, want) {
			t.Errorf("the client's script has not %q:\n%s", want, settings)
		}
	}
	if !guest.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("a guest with the address from DHCP does not reach another")
	}
	guest.awaitRouter()
	if guest.ReachesAtOnce("tcp", server.Addresses[1], 80) {
		t.Error("the guest has an IPv6 address before it has asked")
	}
	guest.dhclient6("fd00:65::1")
	if !guest.Reaches("tcp", server.Addresses[1], 80) {
		t.Error("a guest with addresses from DHCPv6 does not reach another")
	}
	if word := d.lastWord(int(guest.index())); !strings.Contains(word, "gave [fd00:65::1]") {
		t.Errorf("the last word with the guest is %q", word)
	}
}

// awaitRouter waits until the guest has a default route from a router advertisement.
func (m *vm) awaitRouter() {
	m.h.Helper()
	lab.Await(m.h, func() error {
		if routes := m.MustRun("ip", "-6", "route", "show", "default"); !strings.Contains(routes, "via fe80::") {
			return fmt.Errorf("the guest has no default route: %s", routes)
		}
		return nil
	})
}

func TestTheAgentAnswersOnlyWhoIsItsToAnswer(t *testing.T) {
	needClients(t)
	for _, c := range []struct {
		name   string
		change func(w world, ep *calc.Endpoint)
	}{
		{"workloadDHCP Disabled", func(w world, _ *calc.Endpoint) { w.Config.DHCP = false }},
		{"an orchestrator with DHCP of its own", func(_ world, ep *calc.Endpoint) { ep.OwnDHCP = true }},
		{"another MAC", func(_ world, ep *calc.Endpoint) { ep.MAC = "52:54:00:00:00:99" }},
		{"a closed endpoint", func(_ world, ep *calc.Endpoint) { ep.Closed = "for a test" }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			h := newHost(t)
			w := newWorld()
			w.Config.DHCP = true
			guest := h.blank(w, "cali1", "10.65.0.1")
			ep := w.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: "cali1"}]
			c.change(w, &ep)
			w.Endpoints[ep.ID] = ep
			d := h.run(w, Options{})
			defer func() { must(t, d.Uninstall()) }()
			if settings, err := guest.udhcpc("-t", "1", "-T", "1"); err == nil {
				t.Errorf("it got\n%s", settings)
			}
		})
	}
}

// A second agent answers as the first did, and the guest keeps its address. An address that another endpoint has meanwhile is refused.
func TestARenewalAfterARestartAndAChange(t *testing.T) {
	needClients(t)
	h := newHost(t)
	w := newWorld()
	w.Config.DHCP = true
	guest := h.blank(w, "cali1", "10.65.0.1")
	d := h.run(w, Options{})
	_, err := guest.udhcpc()
	must(t, err)
	must(t, d.Close())
	ep := w.Endpoints[calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: "cali1"}]
	ep.Addresses = []netip.Addr{netip.MustParseAddr("10.65.0.7")}
	w.Endpoints[ep.ID] = ep
	d = h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	settings, err := guest.udhcpc("-r", "10.65.0.1") // the client asks for its former address
	must(t, err)
	if !strings.Contains(settings, "ip=10.65.0.7\n") {
		t.Errorf("the guest got\n%s", settings)
	}
}
