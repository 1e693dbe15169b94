package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/margay-project/margay/dataplane"
)

// savedBGP is the last state that felix gave its BGP speaker. A felix that starts while etcd is away announces the same, so peers do not
// drop the routes to this node's workloads when their restart time is over. It has no secrets: passwords are references.
type savedBGP struct {
	Node   string
	Boot   string // boot id of the machine: after a reboot, nothing of the former process is in the kernel
	Saved  time.Time
	Former dataplane.Former
}

// savedFile is the file of the saved state. It is beside the agent's socket, so it is gone after most reboots.
func savedFile(s *settings) string { return filepath.Join(filepath.Dir(s.agentSocket), "bgp.state") }

// savedMagic begins the file. The number is that of the form of the first line.
const savedMagic = "margay-bgp 1"

// layoutOf describes the types in a value. A file that another layout wrote is refused: a field that it does not have may be one
// that limits what is announced or accepted.
func layoutOf(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen[t] {
		return t.String()
	}
	seen[t] = true
	text := t.String()
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			text += " " + t.Field(i).Name + ":" + layoutOf(t.Field(i).Type, seen)
		}
	case reflect.Map:
		text += layoutOf(t.Key(), seen) + layoutOf(t.Elem(), seen)
	case reflect.Slice, reflect.Array, reflect.Pointer:
		text += layoutOf(t.Elem(), seen)
	}
	return text
}

func savedLayout() string {
	sum := sha256.Sum256([]byte(layoutOf(reflect.TypeFor[savedBGP](), map[reflect.Type]bool{})))
	return fmt.Sprintf("%x", sum[:8])
}

// encode returns the contents of the file: a line with the form, the layout and a checksum, and then the state.
func (b savedBGP) encode() ([]byte, error) {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(b); err != nil {
		return nil, err
	}
	head := fmt.Sprintf("%s %s %x\n", savedMagic, savedLayout(), sha256.Sum256(body.Bytes()))
	return append([]byte(head), body.Bytes()...), nil
}

// decodeSaved reads the contents of the file. It refuses a file that is damaged, or that another version, node or boot wrote.
func decodeSaved(contents []byte, node, boot string) (b savedBGP, err error) {
	layout, body, err := openSaved(contents)
	if err != nil {
		return b, err
	}
	if layout != savedLayout() {
		return b, errors.New("another version of felix has written it")
	}
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(&b); err != nil {
		return b, fmt.Errorf("it is damaged: %w", err)
	}
	return b, savedBy(b.Node, b.Boot, node, boot)
}

// openSaved takes the file apart. It refuses a damaged one.
func openSaved(contents []byte) (layout string, body []byte, err error) {
	head, body, _ := bytes.Cut(contents, []byte("\n"))
	rest, ours := strings.CutPrefix(string(head), savedMagic+" ")
	layout, sum, _ := strings.Cut(rest, " ")
	switch {
	case !ours:
		return "", nil, errors.New("it is not a file of this version of felix")
	case sum != fmt.Sprintf("%x", sha256.Sum256(body)):
		return "", nil, errors.New("it is damaged: its checksum is wrong")
	}
	return layout, body, nil
}

// savedBy refuses a file of another node or boot.
func savedBy(itsNode, itsBoot, node, boot string) error {
	switch {
	case itsNode != node:
		return fmt.Errorf("it is from node %s", itsNode)
	case itsBoot != boot:
		return errors.New("the machine was booted since it was written")
	}
	return nil
}

// readSaved reads the saved state. It returns nil, and no error, if there is none.
func readSaved(file, node, boot string) (*savedBGP, error) {
	contents, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := decodeSaved(contents, node, boot)
	if err != nil {
		return nil, fmt.Errorf("%s is not used: %w", file, err)
	}
	return &b, nil
}

// formerProtocols returns the protocol numbers that routes of former agents may have. Without a saved state it returns none: then only the
// routes with the default number and the configured one are felix's.
func formerProtocols(s *settings) []int {
	boot, err := bootID()
	if err != nil {
		return nil
	}
	contents, err := os.ReadFile(savedFile(s))
	if err != nil {
		return nil // newResumption tells the error
	}
	return savedProtocols(contents, s.nodeName, boot)
}

// savedProtocols reads the protocol numbers in a saved state of any version: gob finds fields by their names, and leaves out the others.
// These names must stay.
func savedProtocols(contents []byte, node, boot string) []int {
	var b struct {
		Node, Boot string
		Former     struct {
			RouteProtocol   int
			FormerProtocols []int
		}
	}
	_, body, err := openSaved(contents)
	if err != nil || gob.NewDecoder(bytes.NewReader(body)).Decode(&b) != nil || savedBy(b.Node, b.Boot, node, boot) != nil {
		return nil
	}
	return append(b.Former.FormerProtocols, b.Former.RouteProtocol)
}

// writeSaved replaces the file in one step: after a crash at any moment there is the old one or the new one.
func writeSaved(file string, b savedBGP) error {
	contents, err := b.encode()
	if err != nil {
		return err
	}
	dir, temporary := filepath.Dir(file), file+".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(contents)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// bootID names the present boot of the machine.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
