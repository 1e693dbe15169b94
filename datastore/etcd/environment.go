package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DefaultConfigFile is read when no other file is named.
const DefaultConfigFile = "/etc/calico/calicoctl.cfg"

// ConfigFromEnvironment reads the settings from a configuration file of calicoctl. If file is the default one and does not exist, it
// reads them from the environment. An empty name is the default file.
func ConfigFromEnvironment(getenv func(string) string, file string) (Config, error) {
	if file == "" {
		file = DefaultConfigFile
	}
	text, err := os.ReadFile(file)
	switch {
	case err == nil:
		return parseConfig(file, text)
	case errors.Is(err, fs.ErrNotExist) && file == DefaultConfigFile:
		return access{
			DatastoreType:    lookup(getenv, "DATASTORE_TYPE"),
			EtcdEndpoints:    lookup(getenv, "ETCD_ENDPOINTS"),
			EtcdDiscoverySrv: lookup(getenv, "ETCD_DISCOVERY_SRV"),
			EtcdUsername:     lookup(getenv, "ETCD_USERNAME"),
			EtcdPassword:     lookup(getenv, "ETCD_PASSWORD"),
			EtcdKeyFile:      lookup(getenv, "ETCD_KEY_FILE"),
			EtcdCertFile:     lookup(getenv, "ETCD_CERT_FILE"),
			EtcdCACertFile:   lookup(getenv, "ETCD_CA_CERT_FILE"),
		}.config()
	case errors.Is(err, fs.ErrNotExist):
		return Config{}, fmt.Errorf("Error reading config file: %s", file) //nolint:staticcheck // calicoctl's text
	}
	return Config{}, fmt.Errorf("read the configuration file: %w", err)
}

// lookup reads a variable. CALICO_NAME has priority over NAME.
func lookup(getenv func(string) string, name string) string {
	if value := getenv("CALICO_" + name); value != "" {
		return value
	}
	return getenv(name)
}

// access is the spec of a CalicoAPIConfig. Fields about Kubernetes are accepted and have no effect.
type access struct {
	DatastoreType    string `json:"datastoreType"`
	EtcdEndpoints    string `json:"etcdEndpoints"`
	EtcdDiscoverySrv string `json:"etcdDiscoverySrv"`
	EtcdUsername     string `json:"etcdUsername"`
	EtcdPassword     string `json:"etcdPassword"`
	EtcdKeyFile      string `json:"etcdKeyFile"`
	EtcdCertFile     string `json:"etcdCertFile"`
	EtcdCACertFile   string `json:"etcdCACertFile"`
	EtcdKey          string `json:"etcdKey"`
	EtcdCert         string `json:"etcdCert"`
	EtcdCACert       string `json:"etcdCACert"`

	Kubeconfig               any `json:"kubeconfig"`
	K8sAPIEndpoint           any `json:"k8sAPIEndpoint"`
	K8sKeyFile               any `json:"k8sKeyFile"`
	K8sCertFile              any `json:"k8sCertFile"`
	K8sCAFile                any `json:"k8sCAFile"`
	K8sAPIToken              any `json:"k8sAPIToken"`
	K8sInsecureSkipTLSVerify any `json:"k8sInsecureSkipTLSVerify"`
	K8sDisableNodePoll       any `json:"k8sDisableNodePoll"`
	UsePodCIDR               any `json:"usePodCIDR"`
	KubeconfigInline         any `json:"kubeconfigInline"`
	K8sClientQPS             any `json:"k8sClientQPS"`
	K8sClientBurst           any `json:"k8sClientBurst"`
	K8sCurrentContext        any `json:"k8sCurrentContext"`
	CalicoAPIGroup           any `json:"calicoAPIGroup"`
}

func parseConfig(file string, text []byte) (Config, error) {
	var parsed struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       access         `json:"spec"`
	}
	if err := unmarshalStrict(text, &parsed); err != nil {
		return Config{}, fmt.Errorf("syntax error in %s: %w", file, err)
	}
	if parsed.APIVersion != "projectcalico.org/v3" {
		return Config{}, fmt.Errorf("invalid config file: unknown APIVersion '%s'", parsed.APIVersion)
	}
	if parsed.Kind != "CalicoAPIConfig" {
		return Config{}, fmt.Errorf("invalid config file: expected kind 'CalicoAPIConfig', got '%s'", parsed.Kind)
	}
	return parsed.Spec.config()
}

// unmarshalStrict reads YAML whose values are all text, also those that look like numbers, truth values or dates: a password may be
// 123456. Upper and lower case of field names make no difference. A field that is unknown or stands twice is an error.
func unmarshalStrict(text []byte, into any) error {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return err
	}
	asText(&root)
	var parsed any
	if err := root.Decode(&parsed); err != nil {
		return err
	}
	asJSON, err := json.Marshal(parsed)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// asText makes text of every value but null.
func asText(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" && n.ShortTag() != "!!merge" {
		n.Tag = "!!str"
	}
	for _, inner := range n.Content {
		asText(inner)
	}
}

func (a access) config() (Config, error) {
	if a.DatastoreType != "" && a.DatastoreType != "etcdv3" {
		return Config{}, fmt.Errorf("datastore type '%s' is not supported: objects are kept in etcd; set DATASTORE_TYPE=etcdv3 and ETCD_ENDPOINTS",
			a.DatastoreType)
	}
	if a.EtcdDiscoverySrv != "" && a.EtcdEndpoints != "" {
		return Config{}, errors.New("etcd is named both by endpoints and by the domain of its SRV records: " +
			"keep one of ETCD_ENDPOINTS and ETCD_DISCOVERY_SRV")
	}
	inline := a.EtcdKey != "" || a.EtcdCert != "" || a.EtcdCACert != ""
	if inline && (a.EtcdKeyFile != "" || a.EtcdCertFile != "" || a.EtcdCACertFile != "") {
		return Config{}, errors.New("etcd certificates are given both as files and inline: keep one of the two")
	}
	c := Config{
		DiscoverySRV: a.EtcdDiscoverySrv,
		Username:     a.EtcdUsername, Password: a.EtcdPassword,
		KeyFile: a.EtcdKeyFile, CertFile: a.EtcdCertFile, CAFile: a.EtcdCACertFile,
		KeyPEM: a.EtcdKey, CertPEM: a.EtcdCert, CAPEM: a.EtcdCACert,
	}
	for _, endpoint := range strings.Split(a.EtcdEndpoints, ",") {
		if endpoint = strings.TrimSpace(endpoint); endpoint != "" {
			c.Endpoints = append(c.Endpoints, endpoint)
		}
	}
	return c, nil
}
