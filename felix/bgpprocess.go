package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp/process"
)

// bgpProcess is the only argument of the process in which felix runs its BGP speaker: a malformed message of a peer can end it.
const bgpProcess = "bgp-process"

// bgpCommand runs the program that felix runs, also after its file was replaced.
func bgpCommand() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", bgpProcess)
	cmd.Args[0] = "felix"
	return cmd
}

// serveBGP is the main function of the BGP process.
func serveBGP() {
	_ = os.WriteFile("/proc/self/comm", []byte("felix-bgp"), 0) // for ps and top, which would show "exe"
	conn, err := process.Inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, errorPrefix+err.Error())
		os.Exit(1)
	}
	process.Serve(conn, logrus.New().WithField("part", "bgp"))
}

// learn hands the driver the routes that BGP peers have announced.
func (a *agent) learn() {
	changed, complete, anew := a.speaker.TakeLearned()
	a.driver.Learn(dataplane.News{Changed: changed, Complete: complete, Anew: anew})
}
