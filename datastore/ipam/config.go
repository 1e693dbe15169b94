package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/margay-project/margay/datastore/kv"
)

// Config holds the settings of address allocation, for all nodes. It is not the IPAMConfiguration object: on etcd no program copies
// one to the other.
type Config struct {
	StrictAffinity             bool   // a node takes addresses from its own blocks only
	AutoAllocateBlocks         bool   // nodes claim blocks by themselves
	MaxBlocksPerHost           int    // 0: the allocator's default
	KubeVirtAddressPersistence string // Enabled, Disabled, or empty
	CooldownSeconds            int    // time until a released address may be allocated again
}

// storedConfig is the stored form of Config: zero values are left out.
type storedConfig struct {
	StrictAffinity             bool   `json:"strict_affinity,omitempty"`
	AutoAllocateBlocks         bool   `json:"auto_allocate_blocks,omitempty"`
	MaxBlocksPerHost           int    `json:"maxBlocksPerHost,omitempty"`
	KubeVirtAddressPersistence string `json:"kubeVirtVMAddressPersistence,omitempty"`
	CooldownSeconds            int    `json:"ipCooldownSeconds,omitempty"`
}

// ReadConfig reads the settings. If none are stored, it returns the defaults of allocators.
func ReadConfig(ctx context.Context, store kv.KV) (Config, error) {
	c, _, _, err := readConfig(ctx, store)
	return c, err
}

func readConfig(ctx context.Context, store kv.KV) (Config, map[string]json.RawMessage, int64, error) {
	entry, err := kv.Get(ctx, store, configKey, 0)
	if err != nil {
		return Config{}, nil, 0, fmt.Errorf("read the IPAM configuration: %w", err)
	}
	if entry == nil {
		return Config{AutoAllocateBlocks: true, KubeVirtAddressPersistence: "Enabled"}, map[string]json.RawMessage{}, 0, nil
	}
	var stored storedConfig
	fields := map[string]json.RawMessage{}
	if err = json.Unmarshal(entry.Value, &stored); err == nil {
		err = json.Unmarshal(entry.Value, &fields)
	}
	if err != nil {
		return Config{}, nil, 0, fmt.Errorf("read %s: %w: repair or delete it", configKey, err)
	}
	return Config(stored), fields, entry.Revision, nil
}

// check returns an error for settings that allocators refuse. The texts are calicoctl's.
func (c Config) check() error {
	switch {
	case !c.StrictAffinity && !c.AutoAllocateBlocks:
		return errors.New("error: Cannot disable 'StrictAffinity' and 'AutoAllocateBlocks' at the same time")
	case !c.StrictAffinity && c.MaxBlocksPerHost > 0:
		return errors.New("error: MaxBlocksPerHost requires StrictAffinity to be enabled")
	}
	return nil
}

// Configure changes the settings, unless allocators would refuse the result. Stored fields that this version does not know stay. If no
// settings are stored, it writes all of them, as calicoctl does.
func Configure(ctx context.Context, store kv.KV, change func(*Config)) error {
	for range attempts {
		config, fields, revision, err := readConfig(ctx, store)
		if err != nil {
			return err
		}
		before := config
		change(&config)
		if config == before && revision > 0 {
			return nil
		}
		if err := config.check(); err != nil {
			return err
		}
		value, err := encodeConfig(config, fields)
		if err != nil {
			return err
		}
		outcome, err := store.Commit(ctx, []kv.Condition{{Key: configKey, Revision: revision}}, []kv.Write{{Key: configKey, Value: value}})
		if err != nil {
			return fmt.Errorf("write the IPAM configuration: %w", err)
		}
		if outcome.Done {
			return nil
		}
	}
	return fmt.Errorf("write the IPAM configuration: %w", errContended)
}

func encodeConfig(c Config, fields map[string]json.RawMessage) ([]byte, error) {
	for _, ours := range []string{"strict_affinity", "auto_allocate_blocks", "maxBlocksPerHost", "kubeVirtVMAddressPersistence", "ipCooldownSeconds"} {
		delete(fields, ours)
	}
	text, err := json.Marshal(storedConfig(c))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
