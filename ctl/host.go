package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// host is the machine that diagnostics are collected on.
type host struct {
	files string // the root of its files
	run   func(ctx context.Context, command []string) ([]byte, error)
}

func thisHost() host { return host{files: "/", run: runCommand} }

const (
	commandTimeout = 20 * time.Second
	maxFileBytes   = 32 << 20 // bytes; of a longer file only the end is kept
)

func runCommand(ctx context.Context, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// hostCommands maps each file of the archive to the command whose output it holds.
func hostCommands() map[string]string {
	return map[string]string{
		"host/links.txt":      "ip -d -s link",
		"host/addresses.txt":  "ip addr",
		"host/rules.txt":      "ip rule",
		"host/rules6.txt":     "ip -6 rule",
		"host/routes.txt":     "ip -d route show table all",
		"host/routes6.txt":    "ip -6 -d route show table all",
		"host/neighbours.txt": "ip -d neighbour",
		"host/nftables.txt":   "nft list ruleset",
		"host/iptables.txt":   "iptables-save -c",
		"host/qdiscs.txt":     "tc -s qdisc",
		"host/bpf-net.txt":    "bpftool net show",
		"host/bpf-progs.txt":  "bpftool prog show",
		"host/sockets.txt":    "ss -tupan",
		"host/kernel.txt":     "uname -a",
		"host/uptime.txt":     "uptime",
		"host/modules.txt":    "lsmod",
		"host/sysctls.txt":    "sysctl net",
		"host/dmesg.txt":      "dmesg --ctime",
		"host/unit.txt":       "systemctl cat felix",
		"host/service.txt":    "systemctl status --full --lines 0 felix",
		"logs/journal.txt":    "journalctl --unit felix --no-pager --lines 20000",
	}
}

// hostFiles are copied as well: they exist also on hosts that lack the commands.
func hostFiles() []string {
	return []string{
		"/etc/os-release", "/proc/version", "/proc/meminfo", "/proc/loadavg", "/proc/mounts", "/proc/net/dev", "/proc/net/route",
		"/proc/net/ipv6_route", "/proc/net/fib_trie",
	}
}

// diagnose collects the state of the host. felix need not run.
func (h host) diagnose(ctx context.Context, d *diagnosis, config, logs string) {
	commands := hostCommands()
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		out, err := h.run(ctx, strings.Fields(commands[name]))
		if err != nil {
			d.miss(name, fmt.Errorf("%s: %w", commands[name], err))
		}
		if len(out) > 0 {
			d.add(name, lastOf(out))
		}
	}
	for _, path := range hostFiles() {
		h.addFile(d, "host"+path, path)
	}
	if _, err := os.Stat(h.path(config)); err == nil {
		h.addFile(d, "config/"+filepath.Base(config), config)
	}
	h.addLogs(d, logs)
}

func (h host) path(path string) string { return filepath.Join(h.files, path) }

func (h host) addFile(d *diagnosis, name, path string) {
	content, err := readEnd(h.path(path))
	if err != nil {
		d.miss(name, err)
		return
	}
	d.add(name, content)
}

// addLogs adds the files of a directory, if it exists.
func (h host) addLogs(d *diagnosis, directory string) {
	root := h.path(directory)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		below, err := filepath.Rel(root, path)
		if err == nil {
			h.addFile(d, "logs/"+below, filepath.Join(directory, below))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.miss("logs/", err)
	}
}

// readEnd reads a file, or only the end of a file longer than maxFileBytes. Files of /proc report no size; of those it reads
// the beginning.
func readEnd(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > maxFileBytes {
		if _, err := file.Seek(-maxFileBytes, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes))
	return content, err
}

func lastOf(out []byte) []byte { return out[max(0, len(out)-maxFileBytes):] }
