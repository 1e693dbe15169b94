package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
)

// input says where a verb finds the objects that it works on.
type input struct {
	files     []string
	recursive bool
	skipEmpty bool
}

func (in *input) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&in.files, "filename", "f", nil, "file or directory with manifests, - for standard input; may be repeated")
	cmd.Flags().BoolVarP(&in.recursive, "recursive", "R", false, "also read the subdirectories of a directory")
	cmd.Flags().BoolVar(&in.skipEmpty, "skip-empty", false, "accept an input without manifests")
}

// invalidFileError says that a file could not be read as manifests.
type invalidFileError struct{ cause error }

func (e invalidFileError) Error() string { return "failed to execute command: " + e.cause.Error() }
func (e invalidFileError) Unwrap() error { return e.cause }

// load reads all objects, in the order of the files and of the documents in them.
// Nothing is returned unless every file is valid, so that a typo in the last file leaves the datastore as it was.
func (s *session) load(in input) ([]api.Object, error) {
	if len(in.files) == 0 {
		return nil, errors.New("no objects are named: give -f FILE, -f DIRECTORY, or -f - for standard input")
	}
	var all []api.Object
	for _, name := range in.files {
		objects, err := s.loadPath(in, name)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return all, nil
}

const orSkip = "add manifests, or accept an empty input with --skip-empty"

func (s *session) loadPath(in input, path string) ([]api.Object, error) {
	if path != "-" {
		info, err := os.Stat(path)
		if err != nil {
			return nil, invalidFileError{err}
		}
		if info.IsDir() {
			return s.loadDirectory(in, path)
		}
	}
	return s.loadFile(in, path)
}

func (s *session) loadDirectory(in input, directory string) ([]api.Object, error) {
	files, err := manifestFiles(directory, in.recursive)
	if err != nil {
		return nil, invalidFileError{err}
	}
	var all []api.Object
	for _, file := range files {
		objects, err := s.loadFile(in, file)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	if len(all) == 0 && !in.skipEmpty {
		return nil, hints.With(fmt.Errorf("no resources specified in directory %s", directory), orSkip)
	}
	return all, nil
}

// manifestFiles lists the files of a directory that are manifests by their extension, sorted by path.
func manifestFiles(directory string, recursive bool) ([]string, error) {
	var files []string
	directory += "/" // so that a link to a directory is followed
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != directory && !recursive {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			return nil
		}
		files = append(files, path)
		return isRegular(path)
	})
	return files, err
}

// isRegular refuses everything but regular files: reading a pipe, for example, may never end.
func isRegular(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a link to a directory: name the directory itself, or remove the link", path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: remove it from the directory", path)
	}
	return nil
}

func (s *session) loadFile(in input, path string) ([]api.Object, error) {
	data, err := s.read(path)
	if err != nil {
		return nil, invalidFileError{err}
	}
	objects, err := api.Decode(data)
	if err != nil {
		return nil, hints.With(undecodable(err), "nothing was changed; the error is in "+called(path))
	}
	if len(objects) == 0 && !in.skipEmpty {
		return nil, hints.With(fmt.Errorf("no resources specified in file %s", path), orSkip)
	}
	return objects, nil
}

// undecodable puts calicoctl's sentence for an unknown field in front of our own error, which becomes a hint.
func undecodable(err error) error {
	text := err.Error()
	_, rest, found := strings.Cut(text, "unknown field ")
	if !found {
		return invalidFileError{err}
	}
	field := rest[:strings.IndexAny(rest+"\n", ",:\n")]
	sentence := errors.New("field in document is not recognized or is in the wrong location: " + field)
	return hints.With(invalidFileError{sentence}, text)
}

func (s *session) read(path string) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	type text struct {
		data []byte
		err  error
	}
	all := make(chan text, 1) // buffered, because after an interrupt nobody receives
	go func() {
		data, err := io.ReadAll(s.stdin)
		all <- text{data, err}
	}()
	select {
	case t := <-all:
		return t.data, t.err
	case <-s.interrupted:
		return nil, errors.New("interrupted while reading standard input")
	}
}

// called returns the name of an input for messages.
func called(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}
