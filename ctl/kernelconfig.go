package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// kernelOptions are the options of a kernel's configuration that felix depends on.
func kernelOptions() []*agentv1.Requirement {
	return []*agentv1.Requirement{
		{Name: "CONFIG_BPF_SYSCALL", Missing: "felix enforces policy with BPF programs"},
		{Name: "CONFIG_NET_XGRESS", Missing: "programs cannot be attached to interfaces (tcx): Linux 6.6 or newer with CONFIG_NET_CLS_ACT has it"},
		{Name: "CONFIG_BPF_JIT", Optional: true, Missing: "programs are interpreted and slow"},
		{Name: "CONFIG_DEBUG_INFO_BTF", Missing: "programs cannot find the fields of the kernel's sockets"},
		{Name: "CONFIG_NF_TABLES", Optional: true, Missing: "new interfaces are open until their program is attached, and natOutgoing does not work"},
		{Name: "CONFIG_NF_TABLES_INET", Optional: true, Missing: "new interfaces are open until their program is attached, and natOutgoing does not work"},
		{Name: "CONFIG_NFT_MASQ", Optional: true, Missing: "natOutgoing does not work"},
	}
}

// checkKernelConfig judges a kernel by its configuration, as in /boot/config-* or /proc/config.gz.
func (s *session) checkKernelConfig(path string) error {
	text, err := s.read(path)
	if err != nil {
		return fmt.Errorf("read the kernel's configuration: %w", err)
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
		if text, err = gunzip(text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if !bytes.Contains(text, []byte("CONFIG_")) {
		return fmt.Errorf("%s is not a kernel configuration: want lines such as CONFIG_BPF_SYSCALL=y, as in /boot/config-6.12.0", path)
	}
	built := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		built[name] = value
	}
	list := kernelOptions()
	for _, option := range list {
		switch built[option.Name] {
		case "y":
			option.Found, option.Missing = "built in", ""
		case "m":
			option.Found, option.Missing = "a module", ""
		}
	}
	return s.printRequirements(list)
}

func gunzip(data []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(reader, maxFileBytes))
}
