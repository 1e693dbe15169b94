package margay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/margay-project/margay/"

// mayImport is the architecture: which top-level folder may import which. A folder may always import its own.
var mayImport = map[string][]string{
	"felix":     {"dataplane", "datastore", "calc", "api"},
	"dataplane": {"calc", "bpf", "api"},
	"calc":      {"api"},
	"datastore": {"api"},
	"ctl":       {"datastore", "calc", "api"},
	"bpf":       {},
	"api":       {},
	"internal":  {"datastore"}, // for tests only
}

// packageMayImport is for packages that may import less than their folder. It lists our packages, those of the command line
// and those that speak with the kernel; the standard library and other modules are free.
var packageMayImport = map[string][]string{
	"bpf/layout":           {},
	"dataplane/classifier": {"api", "bpf/layout", "calc"},
	"dataplane/table":      {},
	"dataplane/bgp":        {"calc", "dataplane/bgp/filter", "dataplane/routes", "github.com/vishvananda/netlink", "golang.org/x/sys/unix"},
	"dataplane/bgp/filter": {"calc"},

	"ctl/hints":     {"api"},
	"ctl/print":     {"api", "ctl/hints"},
	"ctl/arguments": {"ctl/hints", commandLine + "cobra"},
	"ctl/cni":       {"api", "ctl/arguments", "ctl/hints", "ctl/workload", commandLine + "cobra", "github.com/vishvananda/netlink", "golang.org/x/sys/unix"},
	"ctl/ipam": {"api", "ctl/arguments", "ctl/hints", "ctl/print", "datastore", "datastore/ipam", "datastore/kv",
		commandLine + "cobra"},
	"ctl/vm":       {"api", "ctl/arguments", "ctl/hints", "ctl/workload", commandLine + "cobra"},
	"ctl/workload": {"api", "ctl/arguments", "ctl/hints", "ctl/print", "datastore", "datastore/ipam", commandLine + "cobra", commandLine + "pflag"},
}

// commandLine is where the libraries for commands and flags are.
const commandLine = "github.com/spf13/"

// kernel lists the libraries that speak with the kernel.
var kernel = []string{"github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink", "golang.org/x/sys"}

// pure lists packages that do no I/O, with what they and the packages below them may not import. calc has no goroutine and
// no lock either; the classifier stores atomically into memory that the kernel reads.
var pure = map[string][]string{
	"calc":                 append([]string{"sync", "sync/atomic"}, inputOutput...),
	"dataplane/classifier": append([]string{"sync"}, inputOutput...),
}

var inputOutput = []string{"io/fs", "net", "net/http", "os", "os/exec", "syscall"}

// mayNotLink lists the packages on which a package must not depend, directly or through others: their paths, each with all below.
var mayNotLink = map[string][]string{
	"ctl":                  {"go.etcd.io/etcd/server", module + "datastore/etcd/embed", module + "datastore/kv/kvtest", module + "internal", packets}, // a server is 4 MB
	"felix":                {module + "datastore/kv/kvtest", module + "internal", packets},
	"datastore":            {"go.etcd.io/etcd/server", module + "datastore/etcd/embed"},
	"datastore/etcd":       {"go.etcd.io/etcd/server", module + "datastore/etcd/embed", module + "api"},
	"datastore/etcd/embed": {module + "api"},
	"datastore/kv/kvtest":  {module + "api"},
	"dataplane/classifier": kernel,
	"bpf/layout":           kernel,
}

// packets builds packets, for tests only.
const packets = "github.com/google/gopacket"

type goPackage struct {
	ImportPath   string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		folder, ours := topFolder(p.ImportPath)
		if !ours || folder == "" {
			continue
		}
		allowed, known := mayImport[folder]
		if !known {
			t.Errorf("%s: the folder %s is not in the architecture", p.ImportPath, folder)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := topFolder(imported)
			if to == "internal" && strings.HasSuffix(p.ImportPath, "test") {
				continue
			}
			if ours && to != folder && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imported, folder, allowed)
			}
		}
		if folder != "bpf" {
			continue
		}
		// The program is compared with the classifier; nothing else of ours is known there.
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			if to, ours := topFolder(imported); ours && !slices.Contains([]string{"bpf", "dataplane", "calc", "api", "internal"}, to) {
				t.Errorf("%s: a test imports %s", p.ImportPath, imported)
			}
		}
	}
}

func TestPurePackagesDoNoIO(t *testing.T) {
	for _, p := range packages(t) {
		for path, forbidden := range pure {
			if !isBelow(p.ImportPath, module+path) {
				continue
			}
			for _, imported := range p.Imports {
				if slices.Contains(forbidden, imported) {
					t.Errorf("%s imports %s: it may do no I/O", p.ImportPath, imported)
				}
			}
		}
	}
}

func TestPackagesImportNoMoreThanTheyNeed(t *testing.T) {
	missing := maps.Clone(packageMayImport)
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, limited := packageMayImport[name]
		delete(missing, name)
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			listed := ours || strings.HasPrefix(imported, commandLine) || isBelowAny(imported, kernel)
			if limited && listed && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: it may import only %v", p.ImportPath, imported, allowed)
			}
		}
	}
	for name := range missing {
		t.Errorf("there is no package %s", name)
	}
}

func TestPackagesLinkNoMoreThanTheyNeed(t *testing.T) {
	all := packages(t)
	for path, unwanted := range mayNotLink {
		at := slices.IndexFunc(all, func(p goPackage) bool { return p.ImportPath == module+path })
		if at < 0 {
			t.Errorf("there is no package %s", path)
			continue
		}
		for _, linked := range all[at].Deps {
			if isBelowAny(linked, unwanted) {
				t.Errorf("%s links %s", path, linked)
			}
		}
	}
}

// isBelow says whether a package is another one or below it.
func isBelow(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func isBelowAny(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return isBelow(path, root) })
}

func topFolder(path string) (folder string, ours bool) {
	rest, ours := strings.CutPrefix(path, module)
	folder, _, _ = strings.Cut(rest, "/")
	return folder, ours
}

func packages(t *testing.T) (all []goPackage) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
