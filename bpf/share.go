package bpf

import "sync/atomic"

// setShare gives each endpoint a share of half of the proven connections.
func (s *Shared) setShare() {
	atomic.StoreUint32(&s.Settings.Share, max(s.tables.current.proven.MaxEntries()/2, 1))
}

// Openers share the table of unproven connections as if there were at least fewestOpeners of them, until a sweep has
// counted more. No opener has a share of less than leastOpenings connections in a window.
const (
	fewestOpeners = 16
	leastOpenings = 64
)

// setOpeningShare divides the table of unproven connections among the openers that the last sweep has counted. The sum
// of all shares is half of the table, so that two windows fit in it: a connection that is opened within a share stays
// for a window at least, whatever others do.
func (s *Shared) setOpeningShare(openers uint64) {
	entries := uint64(s.tables.current.new.MaxEntries())
	atomic.StoreUint32(&s.Settings.OpeningShare, uint32(max(entries/2/max(openers, fewestOpeners), leastOpenings)))
}
