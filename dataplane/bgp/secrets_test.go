package bgp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

func TestPasswordsAreReadFromWhereTheyAre(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("secrets/bgp/tor", "with space \n")
	outside := write("outside", "x")
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MARGAY_TEST_PASSWORD", strings.Repeat("x", 80))
	for name, c := range map[string]struct {
		from       calc.Password
		want, says string
	}{
		"secret":               {calc.Password{Secret: "bgp", Key: "tor"}, "with space ", ""},
		"file":                 {calc.Password{File: outside}, "x", ""},
		"variable":             {calc.Password{Env: "MARGAY_TEST_PASSWORD"}, strings.Repeat("x", 80), ""},
		"no secret":            {calc.Password{Secret: "bgp", Key: "leaf"}, "", "no such file or directory; write the password"},
		"no variable":          {calc.Password{Env: "MARGAY_TEST_NONE"}, "", "felix has no such variable"},
		"out of the directory": {calc.Password{Secret: "..", Key: "outside"}, "", `".." is not the name of a file`},
		"a path as key":        {calc.Password{Secret: "bgp", Key: "../../outside"}, "", "is not the name of a file"},
		"no key":               {calc.Password{Secret: "bgp"}, "", "is not the name of a file"},
		"relative":             {calc.Password{File: "outside"}, "", "the path is not absolute"},
		"a directory":          {calc.Password{File: dir}, "", "is no plain file"},
		"a pipe":               {calc.Password{File: pipe}, "", "is no plain file"},
		"a device":             {calc.Password{File: "/dev/zero"}, "", "is no plain file"},
		"a large file":         {calc.Password{File: write("large", strings.Repeat("y", 1<<20))}, "", "longer than 80 bytes"},
		"only a line end":      {calc.Password{File: write("lineend", "\r\n")}, "", "it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			s := secrets{dir: filepath.Join(dir, "secrets"), known: map[calc.Password]reading{}}
			got, err := s.of(c.from)
			if string(got) != c.want || !strings.Contains(errorText(err), c.says) || (err == nil) != (c.says == "") {
				t.Errorf("%q, %v", string(got), err)
			}
		})
	}
}

func TestAPasswordIsNotPrinted(t *testing.T) {
	s := session{Password: "unmistakable"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, s); strings.Contains(text, "unmistakable") {
			t.Errorf("%s prints %s", format, text)
		}
	}
}

func TestAPasswordIsForgottenWithItsPeer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, with(func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.Password.File = file }) }))
	if len(s.secrets.known) != 1 {
		t.Errorf("%d passwords are known", len(s.secrets.known))
	}
	calls, _ := apply(t, s, f, node())
	expect(t, "calls", calls, "delete peer 10.0.0.9\nadd peer 10.0.0.9 AS 65000")
	if len(s.secrets.known) != 0 || s.RefreshPasswords() {
		t.Errorf("%d passwords are known", len(s.secrets.known))
	}
}
