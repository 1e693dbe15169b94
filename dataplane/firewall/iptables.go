package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// tool is one variant of iptables for one family.
type tool struct {
	name   string
	family string
	loaded string // file that lists the tables in the kernel; empty for the variant that keeps them in nftables
}

var tools = [...]tool{
	{"iptables-nft", "ip", ""},
	{"ip6tables-nft", "ip6", ""},
	{"iptables-legacy", "ip", "/proc/thread-self/net/ip_tables_names"},
	{"ip6tables-legacy", "ip6", "/proc/thread-self/net/ip6_tables_names"},
}

// inUse says whether the tool's table filter exists. A listing by the tool itself would create it.
func (t tool) inUse() bool {
	if t.loaded == "" {
		return hasNftables(t.family)
	}
	names, err := os.ReadFile(t.loaded)
	return err == nil && bytes.Contains(append([]byte("\n"), names...), []byte("\nfilter\n"))
}

// HasLegacy says whether iptables-legacy filters packets on this host. The kernel does not tell of changes of its rules.
func HasLegacy() bool {
	for _, t := range tools {
		if t.loaded != "" && t.inUse() {
			return true
		}
	}
	return false
}

// rule returns the arguments of the rule that makes the chain FORWARD accept packets with these bits of the packet mark.
func rule(mark uint32) []string {
	bits := fmt.Sprintf("%#x/%#x", mark, mark)
	return []string{"FORWARD", "-m", "mark", "--mark", bits, "-m", "comment", "--comment", "margay: judged by policy", "-j", "ACCEPT"}
}

// program is an installed variant of iptables.
type program struct {
	tool string
	path string
}

// find looks for a variant of iptables under its own name, and under the general one.
func find(tool string) (program, error) {
	general, variant, _ := strings.Cut(tool, "-")
	if path, err := exec.LookPath(tool); err == nil {
		return program{tool, path}, nil
	}
	if path, err := exec.LookPath(general); err == nil {
		p := program{tool, path}
		text, err := p.output("--version")
		if isNft := strings.Contains(text, "nf_tables"); err == nil && isNft == (variant == "nft") {
			return p, nil
		}
	}
	return program{}, fmt.Errorf("%s is not installed", tool)
}

// limit is how long one call may take: another process may hold the lock of iptables.
const limit = 3 * time.Second

func (p program) output(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var said bytes.Buffer
	command := exec.CommandContext(ctx, p.path, args...)
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", p.tool, strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return string(text), nil
}

func (p program) run(args ...string) error {
	_, err := p.output(append([]string{"--wait", "1"}, args...)...)
	return err
}

// has says whether the rule is there.
func (p program) has(mark uint32) bool { return p.run(append([]string{"-C"}, rule(mark)...)...) == nil }

// readLegacy asks iptables-legacy for its chains. The kernel has no other usable interface to them.
func readLegacy(mark uint32) (chains []Chain, err error) {
	for _, t := range tools {
		if t.loaded == "" || !t.inUse() {
			continue
		}
		p, e := find(t.name)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("the chain FORWARD of %s may drop packets that policy allows, and cannot be read: %w", t.name, e))
			continue
		}
		text, e := p.output("--wait", "1", "-S", "FORWARD")
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if how := howLegacy(text); how != "" {
			chains = append(chains, Chain{Tool: t.name, Family: t.family, Table: "filter", Name: "FORWARD", How: how, Accepts: p.has(mark)})
		}
	}
	return chains, err
}

// howLegacy says how a chain, as iptables -S prints it, drops by default. It is empty if the chain does not.
func howLegacy(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	switch {
	case strings.HasPrefix(last, "-A FORWARD -j DROP"), strings.HasPrefix(last, "-A FORWARD -j REJECT"):
		return lastRule
	case lines[0] == "-P FORWARD DROP":
		return policyDrop
	}
	return ""
}

// How chains drop by default.
const (
	policyDrop = "policy drop"
	lastRule   = "its last rule drops everything"
)

func quoted(args []string) (shell []string) {
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		shell = append(shell, a)
	}
	return shell
}
