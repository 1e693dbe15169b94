package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// detection is a method of finding the node's address on its machine: one of Calico's, or ours, which follows the default route.
type detection struct {
	kind     string           // the text before the equals sign; empty: the default route
	names    []*regexp.Regexp // of interface= and skip-interface=
	networks []netip.Prefix   // of cidr=
	target   string           // of can-reach=
}

// detectionMethods lists the values of the setting, for messages.
const detectionMethods = "first-found, can-reach=ADDRESS or NAME, interface=REGEX[,REGEX], skip-interface=REGEX[,REGEX] or cidr=NETWORK[,NETWORK]"

// parseDetection reads a method as Calico's operators write it.
func parseDetection(text string) (d detection, err error) {
	method, argument, given := strings.Cut(text, "=")
	d = detection{kind: method}
	if given && argument == "" {
		return d, fmt.Errorf("nothing follows %s=: want %s", method, detectionMethods)
	}
	switch {
	case text == "" || text == "first-found":
	case method == "can-reach" && given:
		d.target = argument
	case (method == "interface" || method == "skip-interface") && given:
		for _, pattern := range strings.Split(argument, ",") {
			name, err := regexp.Compile("^(?:" + strings.TrimSpace(pattern) + ")$")
			if err != nil {
				return d, fmt.Errorf("the interface's name %q is not a regular expression: %w", pattern, err)
			}
			d.names = append(d.names, name)
		}
	case method == "cidr" && given:
		for _, part := range strings.Split(argument, ",") {
			network, err := api.ParseNet(strings.TrimSpace(part))
			if err != nil {
				return d, err
			}
			d.networks = append(d.networks, network)
		}
	case text == "kubernetes-internal-ip":
		return d, fmt.Errorf("there is no Kubernetes here: want %s", detectionMethods)
	default:
		return d, fmt.Errorf("want %s", detectionMethods)
	}
	return d, nil
}

// addressSetting is the operator's setting of the node's address of one family.
type addressSetting struct {
	address string // with the length of its network; autodetect or none
	method  string

	fixed netip.Prefix // valid: the address that was given
	detection
}

// parse reads the setting. Errors name the flag.
func (a *addressSetting) parse(flag string, v4 bool) (err error) {
	if a.detection, err = parseDetection(a.method); err != nil {
		return fmt.Errorf("%s-autodetection-method %q: %w", flag, a.method, err)
	}
	if a.none() || a.address == "" || a.address == "autodetect" {
		return nil
	}
	a.fixed, err = netip.ParsePrefix(a.address)
	if err != nil || a.fixed.Addr().Is4() != v4 {
		return fmt.Errorf("%s %q: want an address of its family with a prefix length, autodetect or none", flag, a.address)
	}
	return nil
}

// none says that the address is neither given nor looked for.
func (a *addressSetting) none() bool { return a.address == "none" }

// choose returns the address that a Node should have. stored is its present address, found the one that an agent found before. A
// setting wins. Without one, an address that an operator wrote stays, and one that was found stays while an interface has it.
func (a *addressSetting) choose(stored, found string, m machine, v4 bool) (string, error) {
	switch {
	case a.fixed.IsValid():
		return a.fixed.String(), nil
	case a.none():
		return stored, nil
	case a.method == "" && stored != "":
		prefix, err := netip.ParsePrefix(stored)
		if stored != found || err != nil || m.present(prefix.Addr()) {
			return stored, nil
		}
	}
	now, err := a.find(m, v4)
	if err != nil || !now.IsValid() {
		return stored, err
	}
	return now.String(), nil
}

// machine is the input of detection. Its functions are called only when needed, because they are costly.
type machine struct {
	addresses []ifaceAddress // in the order of the kernel
	etcd      []netip.Addr

	defaults func() ([]hop, error)          // hops of default routes; the one that the kernel prefers is first
	source   func(to netip.Addr) netip.Addr // source of packets to an address; invalid: there is no route
	lookUp   func(name string) []netip.Addr
}

// hop is one next hop of a default route.
type hop struct {
	family4 bool
	index   int        // of the interface
	gateway netip.Addr // invalid: there is none
	source  netip.Addr // that the route names; mostly invalid
}

// ifaceAddress is an address of the machine.
type ifaceAddress struct {
	prefix    netip.Prefix
	index     int // of its interface
	iface     string
	temporary bool // IPv6 privacy, or not yet proven to be the only one in the network
	floating  bool // deprecated, or keepalived's: a virtual address that may leave
	secondary bool
}

// usable says whether others can reach the machine by the address, now and tomorrow.
func (a ifaceAddress) usable(v4 bool) bool {
	addr := a.prefix.Addr()
	return addr.Is4() == v4 && addr.IsGlobalUnicast() && !a.temporary
}

// rank orders the addresses of an interface: virtual ones, which another machine may have tomorrow, come last. Those are
// often written without a network.
func (a ifaceAddress) rank() int {
	rank := 0
	for weight, is := range map[int]bool{4: a.floating, 2: a.secondary, 1: a.prefix.IsSingleIP()} {
		if is {
			rank += weight
		}
	}
	return rank
}

// find finds the machine's address of one family. It is invalid if there is none.
func (d detection) find(m machine, v4 bool) (netip.Prefix, error) {
	switch d.kind {
	case "can-reach":
		targets := m.lookUp(d.target)
		if addr, err := netip.ParseAddr(d.target); err == nil {
			targets = []netip.Addr{addr}
		}
		return m.sourceTo(targets, v4), nil
	case "interface":
		for _, name := range d.names {
			if found := m.best(v4, func(a ifaceAddress) bool { return name.MatchString(a.iface) }); found.IsValid() {
				return found, nil
			}
		}
		return netip.Prefix{}, nil
	case "skip-interface":
		return m.first(v4, func(a ifaceAddress) bool {
			return !slices.ContainsFunc(d.names, func(name *regexp.Regexp) bool { return name.MatchString(a.iface) })
		}), nil
	case "cidr":
		for _, network := range d.networks {
			if found := m.best(v4, func(a ifaceAddress) bool { return network.Contains(a.prefix.Addr()) }); found.IsValid() {
				return found, nil
			}
		}
		return netip.Prefix{}, nil
	case "first-found":
		return m.first(v4, func(ifaceAddress) bool { return true }), nil
	}
	return m.wayOut(v4)
}

// wayOut finds the source address of packets that leave the machine: by the default route, or else to etcd.
func (m machine) wayOut(v4 bool) (netip.Prefix, error) {
	if !slices.ContainsFunc(m.addresses, func(a ifaceAddress) bool { return a.usable(v4) }) {
		return netip.Prefix{}, nil
	}
	hops, err := m.defaults()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, hop := range hops {
		if hop.family4 != v4 {
			continue
		}
		if found := m.prefixOf(hop.source); found.IsValid() {
			return found, nil
		}
		on := func(a ifaceAddress) bool { return a.index == hop.index }
		near := func(a ifaceAddress) bool { return on(a) && a.prefix.Masked().Contains(hop.gateway) && a.rank() < 2 }
		for _, fits := range []func(ifaceAddress) bool{near, on} {
			if found := m.best(v4, fits); found.IsValid() {
				return found, nil
			}
		}
	}
	return m.sourceTo(m.etcd, v4), nil
}

func (m machine) sourceTo(targets []netip.Addr, v4 bool) netip.Prefix {
	for _, to := range targets {
		if to.Is4() != v4 {
			continue
		}
		if found := m.prefixOf(m.source(to)); found.IsValid() && found.Addr().Is4() == v4 {
			return found
		}
	}
	return netip.Prefix{}
}

// prefixOf returns an address of the machine with the length of its network.
func (m machine) prefixOf(addr netip.Addr) netip.Prefix {
	for _, a := range m.addresses {
		if a.prefix.Addr() == addr && a.usable(addr.Is4()) {
			return a.prefix
		}
	}
	return netip.Prefix{}
}

// first finds an address on the first interface that is probably no container's or virtual machine's, as Calico does.
func (m machine) first(v4 bool, fits func(ifaceAddress) bool) netip.Prefix {
	for _, a := range m.addresses {
		if !a.usable(v4) || inner.MatchString(a.iface) || !fits(a) {
			continue
		}
		return m.best(v4, func(b ifaceAddress) bool { return b.index == a.index })
	}
	return netip.Prefix{}
}

// inner matches names of interfaces that lead to containers and virtual machines of this host.
var inner = regexp.MustCompile(`^(lo$|docker|br-[0-9a-f]{12}$|cbr|dummy|virbr|vnet|tap|lxcbr|lxc|veth|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)`)

// best returns the first of the fitting addresses of lowest rank.
func (m machine) best(v4 bool, fits func(ifaceAddress) bool) (found netip.Prefix) {
	lowest := -1
	for _, a := range m.addresses {
		if a.usable(v4) && fits(a) && (lowest < 0 || a.rank() < lowest) {
			lowest, found = a.rank(), a.prefix
		}
	}
	return found
}

// present says whether an interface has the address.
func (m machine) present(addr netip.Addr) bool {
	return slices.ContainsFunc(m.addresses, func(a ifaceAddress) bool { return a.prefix.Addr() == addr })
}
