package datastore

import (
	"bytes"

	"github.com/margay-project/margay/api"
)

// Equal says whether storing wanted in place of current, which was read from the store, would change nothing. As in Update, wanted
// gets its defaults, and stored fields that this version does not know stay. It says false for objects that it cannot compare, and
// for a current whose rules lack their seals.
func Equal(current, wanted api.Object) bool {
	if missing(current) || missing(wanted) || api.KeyOf(current) != api.KeyOf(wanted) || current.Meta().Unsealed {
		return false
	}
	wanted, err := prepare(wanted)
	if err != nil {
		return false
	}
	wanted.Meta().Rest = union(wanted.Meta().Rest, current.Meta().Rest)
	is, err := encode(current)
	if err != nil {
		return false
	}
	becomes, err := encode(wanted)
	return err == nil && bytes.Equal(is, becomes)
}
