package classifier

import (
	"testing"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

func TestTheProgramHasTheBoundsThatTheCalculationChecks(t *testing.T) {
	t.Parallel()
	if layout.MaxContinuations != calc.MaxContinuations {
		t.Errorf("the program goes on %d times, calc says %d", layout.MaxContinuations, calc.MaxContinuations)
	}
	if slots := Limits().Blocks * layout.BlockSlots; slots != calc.MaxSlots {
		t.Errorf("there is room for %d slots, calc says %d", slots, calc.MaxSlots)
	}
}

func TestANamedPortTakesOneSlotForEachPort(t *testing.T) {
	t.Parallel()
	at := func(port uint16, set calc.SetID) calc.NamedPort {
		return calc.NamedPort{Name: "http", Protocol: 6, Port: port, Set: set}
	}
	numbers := []calc.PortRange{{First: 80, Last: 90}}
	http := func(at ...calc.NamedPort) *calc.PortNames { return &calc.PortNames{Names: []string{"http"}, Ports: at} }
	for _, c := range []struct {
		what        string
		source, dst calc.Match
		want        int
	}{
		{"nothing", calc.Match{}, calc.Match{Names: http()}, 0},
		{"numbers and nothing", calc.Match{}, calc.Match{Ports: numbers, Names: http()}, 1},
		{"two", calc.Match{}, calc.Match{Names: http(at(1, "a"), at(2, "b"))}, 2},
		{"one of two is a number already", calc.Match{},
			calc.Match{Ports: numbers, Names: http(at(80, "a"), at(2, "b"))}, 2},
		{"not two: other ports, and each elsewhere", calc.Match{},
			calc.Match{NotNames: http(at(1, "a"), at(2, "b"))}, 3},
		{"both sides", calc.Match{Names: http(at(1, "a"), at(2, "b"))},
			calc.Match{Names: http(at(1, "a"), at(2, "b"))}, 4},
		{"a port but not on some", calc.Match{}, calc.Match{Names: http(at(1, "a")),
			NotNames: http(at(1, "b"))}, 1},
	} {
		variants, has := variantsOf(&calc.Rule{V4: true, V6: true, Protocol: 6, Source: c.source, Destination: c.dst})
		if !has || len(variants) != c.want {
			t.Errorf("%s: %d variants, want %d", c.what, len(variants), c.want)
		}
		for _, v := range variants {
			if unconstrained := c.source.Names == nil; unconstrained != (v.ports[0] == interval{0, layout.SourcePorts - 1}) {
				t.Errorf("%s: source ports %v", c.what, v.ports)
			}
		}
	}
}
