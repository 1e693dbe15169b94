package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-project/margay/api"
)

// conf is the configuration of a network. docs/vms.md describes its own fields.
type conf struct {
	types.PluginConf
	Config    string            `json:"config,omitempty"` // margayctl's configuration file, for the address of the datastore
	Node      string            `json:"node,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Pools     []string          `json:"pools,omitempty"`
	Count     *int              `json:"count,omitempty"`
	IPv6Count int               `json:"ipv6Count,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Profiles  []string          `json:"profiles,omitempty"`
	MTU       int               `json:"mtu,omitempty"`

	// Fields of runtimes that have no meaning here.
	RuntimeConfig json.RawMessage `json:"runtimeConfig,omitempty"`
	DisableCheck  bool            `json:"disableCheck,omitempty"`
	DisableGC     bool            `json:"disableGC,omitempty"`

	Args struct {
		CNI struct {
			Labels []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"labels"`
		} `json:"cni"`
	} `json:"args,omitempty"`
}

// read reads the configuration. An unknown field is an error: a label with a typing error would leave the container without its policy.
func read(args *skel.CmdArgs) (*conf, error) {
	c := &conf{Namespace: "default"}
	d := json.NewDecoder(bytes.NewReader(args.StdinData))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the network configuration cannot be read", err.Error())
	}
	request := c.request()
	if err := request.Check(); err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network %s", c.Name), err.Error())
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network %s: mtu %d", c.Name, c.MTU), "want 576 to 65535, or leave it out")
	}
	if c.IPAM.Type != "" {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network %s: ipam", c.Name), "margay-cni chooses addresses itself: remove ipam, and name IPPools in pools")
	}
	return c, nil
}

func (c *conf) request() api.AddressRequest {
	r := api.AddressRequest{Pools: c.Pools, Count: 1, IPv6Count: c.IPv6Count}
	if c.Count != nil {
		r.Count = *c.Count
	}
	return r
}

// labels returns those of the network, and over them those that the runtime gives for the container (the convention args.cni.labels).
func (c *conf) labels() map[string]string {
	all := map[string]string{}
	maps.Copy(all, c.Labels)
	for _, l := range c.Args.CNI.Labels {
		all[l.Key] = l.Value
	}
	return all
}
