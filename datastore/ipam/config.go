package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/margay-project/margay/datastore/kv"
)

// Config is the global configuration that allocators obey. It is not the IPAMConfiguration object: in an etcd datastore
// nobody copies one into the other.
type Config struct {
	StrictAffinity             bool
	AutoAllocateBlocks         bool
	MaxBlocksPerHost           int
	KubeVirtAddressPersistence string // Enabled, Disabled, or unset
	CooldownSeconds            int
}

// storedConfig is Config as stored: what is zero is left out.
type storedConfig struct {
	StrictAffinity             bool   `json:"strict_affinity,omitempty"`
	AutoAllocateBlocks         bool   `json:"auto_allocate_blocks,omitempty"`
	MaxBlocksPerHost           int    `json:"maxBlocksPerHost,omitempty"`
	KubeVirtAddressPersistence string `json:"kubeVirtVMAddressPersistence,omitempty"`
	CooldownSeconds            int    `json:"ipCooldownSeconds,omitempty"`
}

// ReadConfig reads the configuration; what an allocator assumes when there is none.
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

// check says why allocators would not obey a configuration. The texts are part of the dialect.
func (c Config) check() error {
	switch {
	case !c.StrictAffinity && !c.AutoAllocateBlocks:
		return errors.New("error: Cannot disable 'StrictAffinity' and 'AutoAllocateBlocks' at the same time")
	case !c.StrictAffinity && c.MaxBlocksPerHost > 0:
		return errors.New("error: MaxBlocksPerHost requires StrictAffinity to be enabled")
	}
	return nil
}

// Configure changes the configuration, if the change makes one that allocators obey. Fields that this version does not know
// stay. Where there is no configuration yet, one is written in full, as calicoctl does.
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
