package api

// IPAMConfiguration holds settings of address allocation. There is one, named default. Allocators on etcd do not read it: they
// read a key of their own, which margayctl ipam configure writes.
type IPAMConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPAMConfigurationSpec `json:"spec"`
}

// IPAMConfigurationSpec holds the settings of an IPAMConfiguration.
type IPAMConfigurationSpec struct {
	StrictAffinity               bool    `json:"strictAffinity"`                         // a node takes addresses from its own blocks only
	MaxBlocksPerHost             *int32  `json:"maxBlocksPerHost,omitempty"`             // most blocks that a node may claim, up to 1000000; 0: the allocator's default; other values need strictAffinity
	AutoAllocateBlocks           bool    `json:"autoAllocateBlocks"`                     // whether nodes claim blocks by themselves
	KubeVirtVMAddressPersistence *string `json:"kubeVirtVMAddressPersistence,omitempty"` // whether a virtual machine of KubeVirt keeps its address when it stops or moves: Enabled, Disabled
	IPCooldownSeconds            *int32  `json:"ipCooldownSeconds,omitempty"`            // seconds until a released address may be allocated again: 0 to 1200
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

// onlyDefault checks the name of a kind that has only one object.
func (c *checker) onlyDefault(name string) {
	if name != "default" {
		c.add("metadata.name", name, "want default: there is no other")
	}
}
