package datastore

// DryRun returns a store over the same objects that writes only into memory. It makes every check, and its reads see its earlier
// writes. It cannot be watched.
func (s *Store) DryRun() *Store { return New(newOverlay(s.kv)) }
