package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane"
)

// uninstall removes every trace of felix from the host. Nothing is under policy then.
func uninstall(log *logrus.Entry, s *settings) error {
	listener, err := listenPrivately(s.agentSocket) // as long as it is ours no felix can start
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	defer os.Remove(s.agentSocket)
	defer listener.Close()
	driver, err := dataplane.New(dataplane.Options{Log: log.WithField("part", "dataplane"), PinDir: s.pinDir})
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	if err := errors.Join(driver.Uninstall(), removePins(s.pinDir), removeFile(bootFile(s))); err != nil {
		return fmt.Errorf("uninstall: not everything is removed, try again: %w", err)
	}
	log.Info("felix is uninstalled: its programs, connections, routes and gate are gone, and no policy is in force")
	return nil
}

// systemBPFFS is the one that other programs pin in as well.
const systemBPFFS = "/sys/fs/bpf"

// removePins removes what is pinned, also by a felix with other layouts, and the mount and directory that felix made.
func removePins(dir string) error {
	if filepath.Clean(dir) == systemBPFFS {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.Contains(entry.Name(), ".") { // the kernel's own files have a dot, and cannot be removed
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: part of another mount
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return removeFile(dir)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
