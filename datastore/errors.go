package datastore

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// NotFoundError says that an object does not exist. The errors in this file begin with calicoctl's words, which scripts look for.
type NotFoundError struct {
	Key    api.Key
	Wanted string // the field and object that refer to the missing object; empty if it was asked for itself
}

func (e NotFoundError) Error() string {
	text := "resource does not exist: " + e.Key.String()
	if e.Wanted != "" {
		text += ", named in " + e.Wanted + ": create it first, or correct the name"
	} else if e.Key.Namespace == "default" {
		text += ": if it is in another namespace than default, give that with -n"
	}
	return text
}

// ExistsError says that an object to be created exists already.
type ExistsError struct {
	Key     api.Key
	Current api.Object // the existing object; nil if it is unreadable
}

func (e ExistsError) Error() string { return "resource already exists: " + e.Key.String() }

// ConflictError says that somebody else changed an object since it was read.
type ConflictError struct{ Key api.Key }

func (e ConflictError) Error() string { return "update conflict: " + e.Key.String() }

// UnsupportedError says that an operation is never allowed on an object.
type UnsupportedError struct {
	Operation string // Create, Update, Delete or Write
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

// invalid returns the validation error of one field.
func invalid(path, value, reason string) error {
	return api.Errors{{Path: path, Value: value, Reason: reason}}
}

// UnreadableError says that a stored value is not the JSON of an object of its kind. Replacing or deleting the object repairs it.
type UnreadableError struct {
	Key     api.Key
	Current api.Object // the fields that can be read; at least name and resourceVersion
	Cause   error
}

func (e UnreadableError) Error() string {
	cause, _, _ := strings.Cut(e.Cause.Error(), ";")
	return fmt.Sprintf("the stored value of %s cannot be read: %s: replace it, or delete it and create it again", e.Key, cause)
}

func (e UnreadableError) Unwrap() error { return e.Cause }
