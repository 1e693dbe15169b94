package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
)

// settings has everything that felix must know before it can read the datastore. Other settings are in FelixConfiguration.
type settings struct {
	nodeName       string
	hostNamed      bool // nodeName was taken from the host's name
	datastore      etcd.Config
	embeddedDir    string
	embeddedListen string
	pinDir         string
	agentSocket    string
	secretsDir     string
	ipv4, ipv6     addressSetting
	asNumber       uint32
	labels         map[string]string
	logLevel       string
	showVersion    bool
	uninstall      bool
	checkOnly      bool
	etcdOnly       bool

	// parameters are settings of FelixConfiguration that the environment overrides, by lower-case name.
	parameters map[string]string
}

// environmentPrefix begins the name of every variable that felix reads: FELIX_NODENAME is --node-name.
const environmentPrefix = "FELIX_"

// parseSettings reads flags, and from the environment the settings whose flag is not given.
func parseSettings(args, environ []string) (*settings, error) {
	s := &settings{}
	flags := s.flags()
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("%w; felix --help lists the flags", err)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; felix --help lists the flags", flags.Arg(0))
	}
	if err := s.readEnvironment(flags, environ); err != nil {
		return nil, err
	}
	if s.nodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("no --node-name, and the host has no name: %w", err)
		}
		s.nodeName, s.hostNamed = strings.ToLower(name), true
	}
	if s.embeddedDir != "" {
		dir, err := filepath.Abs(s.embeddedDir)
		if err != nil {
			return nil, fmt.Errorf("--embedded-etcd %q: %w", s.embeddedDir, err)
		}
		s.embeddedDir = dir
	}
	return s, s.check()
}

func (s *settings) flags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("felix", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "Usage: felix [flags]\n\nEnforces the datastore's policies on this machine.\n\n%s\n"+
			"Each setting can be given in the environment: --node-name is FELIX_NODENAME. FELIX_ and the name of a field of\n"+
			"FelixConfiguration overrides that field on this machine: FELIX_BPFLOGLEVEL=debug.\n", flags.FlagUsages())
	}
	flags.StringVar(&s.nodeName, "node-name", "", "name of this node's Node object (default: the host's name in lower case)")
	flags.StringSliceVar(&s.datastore.Endpoints, "etcd-endpoints", nil, "etcd servers, for example https://etcd1:2379,https://etcd2:2379")
	flags.StringVar(&s.datastore.DiscoverySRV, "etcd-discovery-srv", "", "domain whose SRV records name the etcd servers (instead of --etcd-endpoints)")
	flags.StringVar(&s.datastore.CAFile, "etcd-ca-file", "", "certificate authority of the etcd servers")
	flags.StringVar(&s.datastore.CertFile, "etcd-cert-file", "", "client certificate for etcd")
	flags.StringVar(&s.datastore.KeyFile, "etcd-key-file", "", "key of the client certificate")
	flags.StringVar(&s.datastore.Username, "etcd-username", "", "user for etcd; the password is read from FELIX_ETCDPASSWORD")
	flags.StringVar(&s.embeddedDir, "embedded-etcd", "", "run etcd inside felix with its data in this directory (instead of --etcd-endpoints)")
	flags.StringVar(&s.embeddedListen, "embedded-etcd-listen", "", "let other machines use the embedded etcd at this address, for example 10.0.0.1:2379 (default: only a private unix socket)")
	flags.StringVar(&s.ipv4.address, "ip", "autodetect", "IPv4 address of this node with its prefix length, for example 192.0.2.10/24; autodetect; or none")
	flags.StringVar(&s.ipv6.address, "ip6", "autodetect", "IPv6 address of this node with its prefix length; autodetect; or none")
	flags.StringVar(&s.ipv4.method, "ip-autodetection-method", "", "how to find the IPv4 address: "+detectionMethods+" (default: the source of the default route, else of the way to etcd)")
	flags.StringVar(&s.ipv6.method, "ip6-autodetection-method", "", "how to find the IPv6 address, in the same way")
	flags.Uint32Var(&s.asNumber, "as-number", 0, "BGP AS number for this node's Node object (default: that of BGPConfiguration)")
	flags.StringToStringVar(&s.labels, "labels", nil, "labels for this node's Node object, for example rack=r1,zone=a")
	flags.StringVar(&s.pinDir, "pin-dir", "/run/margay/bpf", "where BPF links and connections outlive felix; bpffs is mounted there")
	flags.StringVar(&s.agentSocket, "agent-socket", "/run/margay/felix.sock", "unix socket on which margayctl finds felix")
	flags.StringVar(&s.secretsDir, "secrets-dir", "/etc/margay/secrets", "directory of passwords of BGP sessions: secretKeyRef {name: N, key: K} is the file N/K in it")
	flags.StringVar(&s.logLevel, "log-level", "info", "trace, debug, info, warning or error, until FelixConfiguration says otherwise")
	flags.BoolVar(&s.etcdOnly, "etcd-only", false, "run only the etcd of --embedded-etcd, for other machines, and put nothing under policy here")
	flags.BoolVar(&s.showVersion, "version", false, "print the version and exit")
	flags.BoolVar(&s.checkOnly, "check", false, "say whether this host has what felix needs, and exit")
	flags.BoolVar(&s.uninstall, "uninstall", false, "remove every trace of felix from this host and exit: nothing is under policy then")
	return flags
}

// readEnvironment sets the flags that were not given. A variable with the prefix that names no flag is a parameter of
// FelixConfiguration. The variables by which margayctl finds etcd count too.
func (s *settings) readEnvironment(flags *pflag.FlagSet, environ []string) error {
	environment := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		environment[strings.ToUpper(name)] = value
	}
	var names []string
	var invalid error
	flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range variables(f.Name) {
			names = append(names, name)
			if value := environment[name]; value != "" && !f.Changed {
				if err := f.Value.Set(value); err != nil {
					invalid = cmp.Or(invalid, fmt.Errorf("%s=%q: %w", name, value, err))
				}
				f.Changed = true
			}
		}
	})
	if invalid != nil {
		return invalid
	}
	for _, name := range passwordVariables() {
		names = append(names, name)
		s.datastore.Password = cmp.Or(s.datastore.Password, environment[name])
	}
	s.parameters = map[string]string{}
	for name, value := range environment {
		if parameter, ours := strings.CutPrefix(name, environmentPrefix); ours && !slices.Contains(names, name) {
			s.parameters[strings.ToLower(parameter)] = value
		}
	}
	return nil
}

// isAction says that a flag is an action. The environment must not ask for one.
func isAction(flag string) bool {
	return slices.Contains([]string{"version", "check", "uninstall", "etcd-only"}, flag)
}

// variables returns the variables that set a flag, the first first.
func variables(flag string) []string {
	if isAction(flag) {
		return nil
	}
	return append([]string{environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", ""))}, otherVariables(flag)...)
}

// passwordVariables returns the variables with the password for etcd, the first first.
func passwordVariables() []string { return []string{"FELIX_ETCDPASSWORD", "ETCD_PASSWORD"} }

// otherVariables returns further variables that set a flag.
func otherVariables(flag string) []string {
	switch flag {
	case "node-name":
		return []string{"FELIX_FELIXHOSTNAME"}
	case "ip-autodetection-method", "ip6-autodetection-method":
		return []string{strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
	case "etcd-ca-file":
		return []string{"ETCD_CA_CERT_FILE"}
	case "etcd-endpoints", "etcd-discovery-srv", "etcd-cert-file", "etcd-key-file", "etcd-username":
		return []string{strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
	}
	return nil
}

func (s *settings) check() error {
	if s.showVersion || s.checkOnly || s.uninstall {
		return nil // none of them needs the datastore
	}
	errs := []error{s.checkNodeName(), s.checkDatastore()}
	errs = append(errs, s.ipv4.parse("--ip", true), s.ipv6.parse("--ip6", false))
	if _, err := logrus.ParseLevel(s.logLevel); err != nil {
		errs = append(errs, fmt.Errorf("--log-level %q: want trace, debug, info, warning or error", s.logLevel))
	}
	return errors.Join(errs...)
}

// checkNodeName refuses a name that no Node can have, and a host's name that many machines have.
func (s *settings) checkNodeName() error {
	what := fmt.Sprintf("--node-name %q", s.nodeName)
	if s.hostNamed {
		what = fmt.Sprintf("the host's name %q as the name of its node", s.nodeName)
	}
	node := &api.Node{TypeMeta: api.TypeMeta{Kind: api.KindNode, APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: s.nodeName}}
	switch label, _, _ := strings.Cut(s.nodeName, "."); {
	case s.etcdOnly:
	case api.Validate(node) != nil:
		return fmt.Errorf("%s is impossible: give --node-name a name of a-z, 0-9, and dashes and dots inside, at most 253 characters", what)
	case s.hostNamed && label == "localhost":
		return fmt.Errorf("%s would be that of many machines: give each machine a --node-name of its own", what)
	}
	return nil
}

const variablesCount = "ETCD_ENDPOINTS and ETCD_DISCOVERY_SRV in the environment count as their flags"

// checkDatastore finds settings with which no attempt to reach etcd could ever succeed.
func (s *settings) checkDatastore() error {
	d := s.datastore
	switch {
	case s.embeddedDir != "" && len(d.Endpoints) > 0:
		return errors.New("--embedded-etcd and --etcd-endpoints exclude each other: give one; " + variablesCount)
	case s.embeddedDir != "" && d.DiscoverySRV != "":
		return errors.New("--embedded-etcd and --etcd-discovery-srv exclude each other: give one; " + variablesCount)
	case d.DiscoverySRV != "" && len(d.Endpoints) > 0:
		return errors.New("--etcd-endpoints and --etcd-discovery-srv exclude each other: give one; " + variablesCount)
	case s.embeddedDir != "":
		return nil
	case s.etcdOnly:
		return errors.New("--etcd-only needs --embedded-etcd DIR")
	case s.embeddedListen != "":
		return errors.New("--embedded-etcd-listen needs --embedded-etcd DIR")
	case len(d.Endpoints) == 0 && d.DiscoverySRV == "":
		return errors.New("no datastore: give --etcd-endpoints or --etcd-discovery-srv, or --embedded-etcd DIR for a machine on its own")
	case (d.CertFile == "") != (d.KeyFile == ""):
		return errors.New("--etcd-cert-file and --etcd-key-file belong together: give both or neither")
	case (d.Username == "") != (d.Password == ""):
		return errors.New("--etcd-username and FELIX_ETCDPASSWORD belong together: give both or neither")
	}
	for _, f := range []struct{ flag, path string }{{"--etcd-ca-file", d.CAFile}, {"--etcd-cert-file", d.CertFile}, {"--etcd-key-file", d.KeyFile}} {
		if err := readable(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	for _, endpoint := range d.Endpoints {
		scheme, rest, given := strings.Cut(endpoint, "://")
		if given && (rest == "" || !slices.Contains([]string{"http", "https", "unix"}, scheme)) {
			return fmt.Errorf("--etcd-endpoints %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", endpoint)
		}
	}
	return nil
}

// readable returns the error of opening a file. An empty path is no error.
func readable(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err == nil {
		err = file.Close()
	}
	return err
}
