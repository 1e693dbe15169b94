package datastore

// DryRun is a store over the same objects that keeps what is written to itself: every check is made, each write is seen by
// those after it, and nobody else sees any. It cannot be watched.
func (s *Store) DryRun() *Store { return New(newOverlay(s.kv)) }
