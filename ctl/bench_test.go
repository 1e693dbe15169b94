package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
)

// builtCommand is the command as it is shipped, against an etcd with a number of endpoints.
type builtCommand struct {
	binary, endpoint string
	kv               datastore.KV
}

func newBuiltCommand(b *testing.B) *builtCommand {
	b.Helper()
	c := &builtCommand{binary: filepath.Join(b.TempDir(), "margayctl"), endpoint: "unix://" + embeddedEtcd(b)}
	if out, err := exec.Command("go", "build", "-trimpath", "-o", c.binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	client, err := etcd.Dial(b.Context(), etcd.Config{Endpoints: []string{c.endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	c.kv = client
	return c
}

// fill writes workload endpoints up to a number.
func (c *builtCommand) fill(b *testing.B, from, to int) {
	b.Helper()
	for batch := range slices.Chunk(slices.Collect(numbers(from, to)), 64) {
		var writes []datastore.Write
		for _, i := range batch {
			name := fmt.Sprintf("node%d-libvirt-vm%d-eth0", i%500, i)
			value := fmt.Sprintf(`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"namespace":"prod",`+
				`"uid":"c7bacbbf-cc2f-451a-b6ea-520e53fb2725","creationTimestamp":"2026-11-20T16:09:49Z","labels":{"app":"fe","zone":"z%d",`+
				`"projectcalico.org/namespace":"prod","projectcalico.org/orchestrator":"libvirt"}},"spec":{"orchestrator":"libvirt",`+
				`"workload":"vm%d","node":"node%d","endpoint":"eth0","ipNetworks":["10.%d.%d.%d/32"],"profiles":["vm-default"],`+
				`"interfaceName":"tap%d","mac":"02:00:00:00:00:01"}}`, name, i%5, i, i%500, i>>16, i>>8&255, i&255, i%1000)
			writes = append(writes, datastore.Write{Key: "/calico/resources/v3/projectcalico.org/workloadendpoints/prod/" + name, Value: []byte(value)})
		}
		if _, err := c.kv.Commit(b.Context(), nil, writes); err != nil {
			b.Fatal(err)
		}
	}
}

func numbers(from, to int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := from; i < to && yield(i); i++ {
		}
	}
}

// run is one process: how long to its first output and to its end, and the most memory that it had.
func (c *builtCommand) run(b *testing.B, args ...string) (first, whole time.Duration, resident int64) {
	b.Helper()
	cmd := exec.Command(c.binary, args...)
	cmd.Env = []string{"ETCD_ENDPOINTS=" + c.endpoint}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	first = time.Since(began)
	for buffer := make([]byte, 1<<16); err == nil; {
		resident = max(resident, mostResident(cmd.Process.Pid))
		_, err = out.Read(buffer)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return first, time.Since(began), resident
}

// mostResident returns the peak memory of a running process; 0 for one that has ended. For an ended process, the figure of the kernel
// includes the memory of its parent.
func mostResident(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kibibytes, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kibibytes, 10, 64)
	return n << 10
}

// BenchmarkGetList is the process that lists endpoints: its time to the first output, and the most memory it has.
func BenchmarkGetList(b *testing.B) {
	c, filled := newBuiltCommand(b), 0
	for _, count := range []int{1, 1000, 10_000, 100_000} {
		c.fill(b, filled, count)
		filled = count
		for _, output := range []string{"ps", "json", "yaml"} {
			b.Run(strconv.Itoa(count)+"/"+output, func(b *testing.B) {
				var firsts []time.Duration
				var most int64
				for b.Loop() {
					first, _, resident := c.run(b, "get", "wep", "-A", "-o", output)
					firsts, most = append(firsts, first), max(most, resident)
				}
				slices.Sort(firsts)
				b.ReportMetric(firsts[len(firsts)/2].Seconds()*1e3, "ms-to-first-row")
				b.ReportMetric(float64(most)/(1<<20), "MiB-resident")
			})
		}
	}
}

// BenchmarkGetOne is the process that gets one object by its name.
func BenchmarkGetOne(b *testing.B) {
	c := newBuiltCommand(b)
	c.fill(b, 0, 1)
	var times []time.Duration
	for b.Loop() {
		_, whole, _ := c.run(b, "get", "wep", "-n", "prod", "node0-libvirt-vm0-eth0", "-o", "yaml")
		times = append(times, whole)
	}
	slices.Sort(times)
	b.ReportMetric(times[0].Seconds()*1e3, "ms-least")
	b.ReportMetric(times[len(times)/2].Seconds()*1e3, "ms-median")
}
