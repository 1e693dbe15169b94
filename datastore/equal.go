package datastore

import (
	"bytes"

	"github.com/margay-project/margay/api"
)

// Equal says whether storing wanted in the place of current, which was read from the store, would change nothing. What wanted
// leaves out has its default, and stored fields that this version does not know stay, as in Update. When in doubt they differ;
// so do an object whose rules are not sealed yet and one that is.
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
