// Package api holds the objects of the datastore: their kinds, fields, defaults, validation and wire form, which is
// that of projectcalico.org/v3. Start at kinds.go, the table of kinds; object.go has what all objects share.
//
// Manifests go through Decode (strict, with suggestions), Default, Validate and Warnings. Stored values go through DecodeStored,
// which tolerates and keeps unknown fields, and Encode.
//
// Text is parsed into typed values here and nowhere else: selectors in api/selector, networks and addresses in nets.go, protocols,
// ports and AS numbers in values.go. The package does no I/O.
package api
