// Package api holds the objects of the datastore: their kinds, fields, defaults, validation and wire form, which is
// that of projectcalico.org/v3. Start at kinds.go, the table of kinds; object.go has what all objects share.
//
// Text becomes typed values here and nowhere else: labels' language is in api/selector, addresses and ports in
// values.go. The package does no I/O.
package api
