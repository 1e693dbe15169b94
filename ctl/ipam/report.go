package ipam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/margay-project/margay/datastore/ipam"
)

// report holds the findings of ipam check, for programs and for ipam release. Its fields are those of calicoctl's reports.
type report struct {
	Version         string                          `json:"version"` // of margayctl
	ClusterGUID     string                          `json:"clusterGUID"`
	DatastoreLocked bool                            `json:"datastoreLocked"`
	ClusterRevision string                          `json:"clusterInformationRevision"`
	ClusterType     string                          `json:"clusterType"`
	Allocations     map[string][]reportedAllocation `json:"allocations"` // by address
	LeakedHandles   []reportedHandle                `json:"leakedHandles,omitempty"`
}

type reportedAllocation struct {
	IP                string   `json:"ip"`
	Handle            string   `json:"handle,omitempty"`
	SequenceNumber    *uint64  `json:"sequenceNumber,omitempty"`
	Pod               string   `json:"pod,omitempty"`
	Namespace         string   `json:"namespace,omitempty"`
	Node              string   `json:"node,omitempty"`
	Type              string   `json:"type,omitempty"`
	CreationTimestamp string   `json:"creationTimestamp,omitempty"`
	InUse             bool     `json:"inUse"`
	Borrowed          bool     `json:"borrowed,omitempty"`
	CoolingDown       bool     `json:"coolingDown,omitempty"`
	Owners            []string `json:"owners"`
}

// reportedHandle has the field names of calicoctl's reports. UID is always null, because handles in etcd have none.
type reportedHandle struct {
	ID       string
	UID      *string
	Revision string
}

func newReport(c *ipam.Check, version string) report {
	r := report{
		Version: version, ClusterGUID: c.Cluster.GUID, DatastoreLocked: c.Cluster.Locked, ClusterRevision: c.Cluster.Revision,
		ClusterType: c.Cluster.Type, Allocations: map[string][]reportedAllocation{},
	}
	for addr, allocations := range c.Allocations {
		for _, a := range allocations {
			r.Allocations[addr.String()] = append(r.Allocations[addr.String()], reportedAllocation{
				IP: addr.String(), Handle: a.Handle, SequenceNumber: &a.Sequence,
				Pod: a.Of("pod"), Namespace: a.Of("namespace"), Node: a.Node, Type: a.Of("type"), CreationTimestamp: a.Of("timestamp"),
				InUse: a.Standing.Held(), Borrowed: a.Borrowed, CoolingDown: a.Standing == ipam.CoolingDown, Owners: a.Owners,
			})
		}
	}
	for _, h := range c.LeakedHandles {
		r.LeakedHandles = append(r.LeakedHandles, reportedHandle{ID: h.ID, Revision: strconv.FormatInt(h.Revision, 10)})
	}
	return r
}

func (r report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// readReport reads a report. It refuses a file that was cut off, or that is not a report.
func readReport(file string) (report, error) {
	var r report
	text, err := os.ReadFile(file)
	if err != nil {
		return r, fmt.Errorf("read the report: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&r); err != nil {
		return r, fmt.Errorf("%s is not a report of ipam check: %w%s", file, err, lineOf(text, err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%s is not a report of ipam check: more data follows at byte %d", file, decoder.InputOffset())
	}
	if r.Allocations == nil || r.ClusterGUID == "" {
		return r, fmt.Errorf("%s is not a report of ipam check: it lacks allocations or clusterGUID", file)
	}
	return r, nil
}

// lineOf returns the line at which decoding a text failed, as " (line N)"; empty if the error has no position.
func lineOf(text []byte, err error) string {
	offset := int64(-1)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
	} else if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(text)) {
		return ""
	}
	return fmt.Sprintf(" (line %d)", 1+bytes.Count(text[:offset], []byte("\n")))
}

// leaks returns the allocations that nobody uses according to the report, and the leaked handles.
func (r report) leaks(file string) (map[ipam.Leak]bool, map[ipam.Handle]bool, error) {
	leaks, handles := map[ipam.Leak]bool{}, map[ipam.Handle]bool{}
	for name, allocations := range r.Allocations {
		// An address is not leaked if one of its allocations is in use or cooling down.
		if slices.ContainsFunc(allocations, func(a reportedAllocation) bool { return a.InUse || a.CoolingDown }) {
			continue
		}
		for _, a := range allocations {
			addr, err := netip.ParseAddr(a.IP)
			if err != nil || a.IP != name || a.SequenceNumber == nil {
				return nil, nil, fmt.Errorf("%s: allocations[%q]: want the ip %s and a sequenceNumber: make a new report", file, name, name)
			}
			leaks[ipam.Leak{Addr: addr.Unmap(), Handle: a.Handle, Sequence: *a.SequenceNumber}] = true
		}
	}
	for _, h := range r.LeakedHandles {
		revision, err := strconv.ParseInt(h.Revision, 10, 64)
		if err != nil || revision <= 0 || h.ID == "" {
			return nil, nil, fmt.Errorf("%s: leakedHandles: %q at revision %q: want a name and a positive number: make a new report", file, h.ID, h.Revision)
		}
		handles[ipam.Handle{ID: h.ID, Revision: revision}] = true
	}
	return leaks, handles, nil
}
