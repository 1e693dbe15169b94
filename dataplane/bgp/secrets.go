package bgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

// secret is a password. Its text appears in no log and no message.
type secret string

func (secret) String() string                 { return "(a password)" }
func (s secret) GoString() string             { return s.String() }
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// maxPassword is the length of a TCP MD5 key in bytes (TCP_MD5SIG_MAXKEYLEN, linux/tcp.h).
const maxPassword = 80

// secrets has the passwords of the wanted sessions as they were last read.
type secrets struct {
	dir   string // of secretKeyRef
	known map[calc.Password]reading
}

// reading is the result of one attempt to read a password.
type reading struct {
	password secret
	err      error
}

// of returns a password. It reads it if it is not known yet.
func (s *secrets) of(from calc.Password) (secret, error) {
	if !from.IsSet() {
		return "", nil
	}
	r, known := s.known[from]
	if !known {
		r = s.read(from)
		s.known[from] = r
	}
	return r.password, r.err
}

// forget drops the passwords that no peer uses.
func (s *secrets) forget(peers map[string]calc.Peer) {
	used := map[calc.Password]bool{}
	for _, p := range peers {
		used[p.Password] = true
	}
	for from := range s.known {
		if !used[from] {
			delete(s.known, from)
		}
	}
}

// refresh reads all passwords again. It says whether one has changed, can be read again or can be read no more.
func (s *secrets) refresh() (changed bool) {
	for from, before := range s.known {
		now := s.read(from)
		if now.password != before.password || errorText(now.err) != errorText(before.err) {
			changed = true
		}
		s.known[from] = now
	}
	return changed
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// read reads a password. An error never contains a part of it.
func (s *secrets) read(from calc.Password) reading {
	text, err := s.text(from)
	if err == nil {
		err = checkPassword(text)
	}
	if err != nil {
		return reading{err: fmt.Errorf("password from %v: %w", from, err)}
	}
	return reading{password: secret(text)}
}

func (s *secrets) text(from calc.Password) (string, error) {
	switch {
	case from.Env != "":
		text, set := os.LookupEnv(from.Env)
		if !set {
			return "", errors.New("felix has no such variable; set it where felix is started, and restart felix")
		}
		return text, nil
	case from.File != "":
		if !filepath.IsAbs(from.File) {
			return "", errors.New("the path is not absolute; correct fromFile")
		}
		return readSecret(from.File)
	}
	for _, name := range []string{from.Secret, from.Key} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return "", fmt.Errorf("%q is not the name of a file; correct secretKeyRef", name)
		}
	}
	if s.dir == "" {
		return "", errors.New("felix has no --secrets-dir; give it one")
	}
	return readSecret(filepath.Join(s.dir, from.Secret, from.Key))
}

// readSecret reads the only line of a file. It does not wait for a pipe or a device, and reads no large file.
func readSecret(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", fmt.Errorf("%w; write the password into this file, readable by felix", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no plain file; write the password into one", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4*maxPassword))
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(text, "\r\n")), nil
}

func checkPassword(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty; write the password there")
	case strings.ContainsAny(text, "\r\n"):
		return errors.New("it has several lines; write only the password there, in one line")
	case len(text) > maxPassword:
		return fmt.Errorf("it is longer than %d bytes, which TCP MD5 signatures do not allow; choose a shorter one on both ends", maxPassword)
	}
	return nil
}

// RefreshPasswords reads the passwords of the wanted sessions again. If it returns true the caller should call Apply with the same
// argument again: sessions whose password has changed start anew.
func (s *Speaker) RefreshPasswords() (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets.refresh()
}
