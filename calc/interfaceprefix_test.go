package calc

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

func TestPrefixesOfInterfacesAreAList(t *testing.T) {
	for _, test := range []struct{ text, want, problem string }{
		{"", "cali", ""},
		{"tap", "tap", ""},
		{"cali,tap,vnet,fwpr", "cali tap vnet fwpr", ""},
		{" cali , tap\t,,vnet, ", "cali tap vnet", ""},
		{"tap,tap", "tap", ""},
		{",", "cali", `interfacePrefix "," has no beginning of a name, so it means cali`},
		{"  ", "cali", `interfacePrefix "  " has no beginning of a name, so it means cali`},
		{"*", "cali", `no interface's name begins with "*"`},
		{"tap*,vnet", "vnet", `no interface's name begins with "tap*"`},
		{"vnet tap", "cali", `no interface's name begins with "vnet tap"`},
		{"aninterfacename0", "cali", `no interface's name begins with "aninterfacename0"`},
	} {
		s := configOf(t, nil, config("default", api.FelixConfigurationSpec{InterfacePrefix: test.text}))
		if got := strings.Join(s.Config.InterfacePrefixes, " "); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
		var problems []string
		for p := range s.Problems {
			problems = append(problems, p.Text)
		}
		if all := strings.Join(problems, "\n"); (all == "") != (test.problem == "") || !strings.Contains(all, test.problem) {
			t.Errorf("%q: problems %q, want %q", test.text, all, test.problem)
		}
	}
}
