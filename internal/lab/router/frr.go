package router

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/skip"
)

// FRR is the daemons zebra and bgpd of FRR on a host. Zebra puts the routes that bgpd learns into the kernel.
type FRR struct {
	t   lab.T
	on  *lab.Host
	dir string

	zebra, bgpd *lab.Process
}

// frrDaemons is where Debian's package has them, outside everybody's PATH.
const frrDaemons = "/usr/lib/frr"

// StartFRR starts FRR with a configuration of bgpd, and waits until it answers.
func StartFRR(t lab.T, on *lab.Host, config string) *FRR {
	t.Helper()
	if _, err := os.Stat(filepath.Join(frrDaemons, "bgpd")); err != nil {
		skip.For(t, "FRR is not installed")
	}
	f := &FRR{t: t, on: on, dir: lab.ShortDir(t)} // a directory of the test would be closed to the user frr
	for name, text := range map[string]string{"zebra.conf": "", "bgpd.conf": config} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644); err != nil {
			t.Fatalf("write the configuration of FRR: %v", err)
		}
	}
	f.giveToFRR()
	f.zebra = f.start("zebra")
	f.await("zebra", f.zebra)
	f.StartBGP()
	return f
}

// giveToFRR lets the user frr, whose rights the daemons take on, write into the directory.
func (f *FRR) giveToFRR() {
	f.t.Helper()
	owner, err := user.Lookup("frr")
	if err != nil {
		f.t.Fatalf("find the user of FRR: %v", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(f.dir, uid, gid); err != nil {
		f.t.Fatalf("hand the directory of FRR over: %v", err)
	}
}

// StartBGP starts bgpd, also again after Kill.
func (f *FRR) StartBGP() {
	f.t.Helper()
	f.bgpd = f.start("bgpd")
	f.await("bgpd", f.bgpd)
}

// Kill ends bgpd at once. Zebra goes on and keeps the routes in the kernel.
func (f *FRR) Kill() { f.bgpd.Kill() }

func (f *FRR) start(daemon string) *lab.Process {
	f.t.Helper()
	log, err := os.OpenFile(filepath.Join(f.dir, daemon+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		f.t.Fatalf("open the log of FRR: %v", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(frrDaemons, daemon), "--log", "stdout", "-f", filepath.Join(f.dir, daemon+".conf"),
		"-i", filepath.Join(f.dir, daemon+".pid"), "-z", filepath.Join(f.dir, "zebra.api"), "--vty_socket", f.dir, "-A", "127.0.0.1", "-P", "0")
	cmd.Stdout, cmd.Stderr = log, log
	return f.on.Start(cmd)
}

func (f *FRR) await(daemon string, running *lab.Process) {
	f.t.Helper()
	lab.Await(f.t, func() error {
		select {
		case <-running.Ended():
			said, _ := os.ReadFile(filepath.Join(f.dir, daemon+".log"))
			f.t.Fatalf("%s of FRR has ended: %s", daemon, said)
		default:
		}
		_, err := f.ask(daemon, "show version")
		return err
	})
}

// Ask runs a command of bgpd.
func (f *FRR) Ask(command string) (string, error) { return f.ask("bgpd", command) }

// Configure runs commands of bgpd's configuration, one after the other.
func (f *FRR) Configure(commands ...string) {
	f.t.Helper()
	if out, err := f.ask("bgpd", append([]string{"configure terminal"}, commands...)...); err != nil {
		f.t.Fatalf("configure FRR: %v: %s", err, out)
	}
}

func (f *FRR) ask(daemon string, commands ...string) (string, error) {
	arguments := []string{"--vty_socket", f.dir, "-d", daemon}
	for _, c := range commands {
		arguments = append(arguments, "-c", c)
	}
	out, err := exec.Command("vtysh", arguments...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// AwaitRoute waits until bgpd has a route and its attributes contain all texts.
func (f *FRR) AwaitRoute(prefix string, texts ...string) {
	f.t.Helper()
	awaitRoute(f.t, f.Ask, showRoute(prefix), append(texts, entryOf(prefix))...)
}

// AwaitNoRoute waits until a route is gone.
func (f *FRR) AwaitNoRoute(prefix string) {
	f.t.Helper()
	awaitNoRoute(f.t, f.Ask, showRoute(prefix), entryOf(prefix))
}

// entryOf begins the answer if there is a route to exactly this prefix.
func entryOf(prefix string) string { return "BGP routing table entry for " + prefix }

func showRoute(prefix string) string {
	if strings.Contains(prefix, ":") {
		return "show bgp ipv6 unicast " + prefix
	}
	return "show bgp ipv4 unicast " + prefix
}
