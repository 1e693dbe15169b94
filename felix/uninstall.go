package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/dataplane"
)

// uninstall removes every trace of felix from the host. Nothing is under policy then. A felix that runs must be stopped first.
func uninstall(log *logrus.Entry, s *settings) error {
	err := dataplane.Uninstall(dataplane.Options{Log: log.WithField("part", "dataplane"), PinDir: s.pinDir, RouteProtocols: formerProtocols(s)})
	if err == nil {
		err = errors.Join(removeSocket(s.agentSocket), removeFile(bootFile(s)), removeFile(savedFile(s)))
	}
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	log.Info("felix is uninstalled: its programs, connections, routes and gate are gone, and no policy is in force")
	return nil
}

// removeSocket removes the socket of a felix that has ended. A socket that answers belongs to a felix of another network namespace.
func removeSocket(path string) error {
	if conn, err := net.Dial("unix", path); err == nil {
		return conn.Close()
	}
	return removeFile(path)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
