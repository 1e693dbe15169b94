package datastore

import "github.com/margay-project/margay/datastore/kv"

// The store underneath, under the names that users of this package know; see package kv.
type (
	KV        = kv.KV
	Span      = kv.Span
	Entry     = kv.Entry
	Page      = kv.Page
	Condition = kv.Condition
	Write     = kv.Write
	Outcome   = kv.Outcome
	Changes   = kv.Changes
	Event     = kv.Event
)

// ErrCompacted says that the history that was asked for is no longer kept.
var ErrCompacted = kv.ErrCompacted
