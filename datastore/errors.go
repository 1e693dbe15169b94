package datastore

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// NotFoundError says that an object does not exist. These errors begin with the words of the dialect, which scripts look for.
type NotFoundError struct {
	Key    api.Key
	Wanted string // who needs the object, and where it is named; empty if the object itself was asked for
}

func (e NotFoundError) Error() string {
	text := "resource does not exist: " + e.Key.String()
	if e.Wanted != "" {
		text += ", named in " + e.Wanted + ": create it first, or correct the name"
	} else if e.Key.Namespace == "default" {
		text += ": give its namespace with -n if that is another one than default"
	}
	return text
}

// ExistsError says that an object to be created exists already.
type ExistsError struct {
	Key     api.Key
	Current api.Object // what exists; nil when it cannot be read
}

func (e ExistsError) Error() string { return "resource already exists: " + e.Key.String() }

// ConflictError says that an object was changed by someone else since it was read.
type ConflictError struct{ Key api.Key }

func (e ConflictError) Error() string { return "update conflict: " + e.Key.String() }

// UnsupportedError says that an operation is never allowed on an object.
type UnsupportedError struct {
	Operation string // Create, Update, Delete
	Key       api.Key
	Reason    string
}

func (e UnsupportedError) Error() string {
	text := fmt.Sprintf("operation %s is not supported on %s", e.Operation, e.Key)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// invalid is the validation error of one field.
func invalid(path, value, reason string) error {
	return api.Errors{{Path: path, Value: value, Reason: reason}}
}

// UnreadableError says that a stored value is not the JSON of an object of its kind. It can be replaced and deleted.
type UnreadableError struct {
	Key     api.Key
	Current api.Object // what can be read; at least its name and resourceVersion
	Cause   error
}

func (e UnreadableError) Error() string {
	cause, _, _ := strings.Cut(e.Cause.Error(), ";")
	return fmt.Sprintf("the stored value of %s cannot be read: %s: replace it, or delete it and create it anew", e.Key, cause)
}

func (e UnreadableError) Unwrap() error { return e.Cause }
