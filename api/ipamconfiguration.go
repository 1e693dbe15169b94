package api

// IPAMConfiguration named default says how addresses are given to nodes. IPAM itself reads a key of its own in
// the datastore; nothing copies one to the other.
type IPAMConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPAMConfigurationSpec `json:"spec"`
}

type IPAMConfigurationSpec struct {
	StrictAffinity               bool    `json:"strictAffinity"`                         // a node takes addresses from its own blocks only
	MaxBlocksPerHost             *int32  `json:"maxBlocksPerHost,omitempty"`             // 0: any number; else needs strictAffinity
	AutoAllocateBlocks           bool    `json:"autoAllocateBlocks"`                     // false: nodes claim no blocks
	KubeVirtVMAddressPersistence *string `json:"kubeVirtVMAddressPersistence,omitempty"` // Enabled, Disabled
	IPCooldownSeconds            *int32  `json:"ipCooldownSeconds,omitempty"`            // how long a released address rests
}

func (i *IPAMConfiguration) setDefaults() {
	fillPointer(&i.Spec.MaxBlocksPerHost, 0)
}

func (c *checker) ipamConfiguration(i *IPAMConfiguration) {
	c.onlyDefault(i.Name)
	if n := i.Spec.MaxBlocksPerHost; n != nil {
		c.between("spec.maxBlocksPerHost", int64(*n), 0, 1_000_000)
	}
	if s := i.Spec.IPCooldownSeconds; s != nil {
		c.between("spec.ipCooldownSeconds", int64(*s), 0, 1200)
	}
	c.optionalOneOf("spec.kubeVirtVMAddressPersistence", i.Spec.KubeVirtVMAddressPersistence, "Enabled", "Disabled")
}

// onlyDefault is for kinds of which there is one object.
func (c *checker) onlyDefault(name string) {
	if name != "default" {
		c.add("metadata.name", name, "want default: there is no other")
	}
}
