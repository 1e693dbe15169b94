package process

import (
	"net/netip"
	"net/rpc"
	"strings"
	"testing"

	"github.com/margay-project/margay/dataplane/bgp"
)

// routesOf is a child whose peers have sent many routes.
type routesOf struct {
	readings *readings
	routes   []bgp.Received
	longest  int
	again    bool // it is another child after the first answer
}

func (r *routesOf) Received(which Part, answer *Routes) (err error) {
	*answer, err = r.readings.part(which, func() ([]bgp.Received, error) { return r.routes, nil })
	if r.longest = max(r.longest, len(answer.List)); r.again {
		r.readings = &readings{}
	}
	return err
}

// Received routes come in parts, so that other answers do not wait for all of them.
func TestReceivedRoutesComeInParts(t *testing.T) {
	t.Parallel()
	all := make([]bgp.Received, 2*partLength+1)
	for i := range all {
		all[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for _, n := range []int{0, 1, partLength, partLength + 1, len(all)} {
		for _, again := range []bool{false, true} {
			ours, theirs, err := socketPair()
			if err != nil {
				t.Fatal(err)
			}
			far, err := connectionOf(theirs)
			if err != nil {
				t.Fatal(err)
			}
			child := &routesOf{readings: &readings{}, routes: all[:n], again: again}
			server := rpc.NewServer()
			if err := server.RegisterName("Speaker", child); err != nil {
				t.Fatal(err)
			}
			go server.ServeConn(far)
			p := &Process{child: &connection{rpc: rpc.NewClient(ours), kill: func() { t.Error("the child is ended") }, patience: patience}}
			got, err := p.Received()
			p.child.rpc.Close()
			if again && n > partLength {
				if err == nil || !strings.Contains(err.Error(), "started again") {
					t.Errorf("%d routes of two children, error %v", len(got), err)
				}
				continue
			}
			if err != nil || len(got) != n || child.longest > partLength || len(child.readings.lists) > 0 {
				t.Fatalf("%d of %d routes, error %v, the longest part %d, left are %d readings", len(got), n, err, child.longest, len(child.readings.lists))
			}
			for i, r := range got {
				if r.Prefix != all[i].Prefix {
					t.Fatalf("route %d is %v", i, r.Prefix)
				}
			}
		}
	}
}
