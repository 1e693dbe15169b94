// Package print writes objects and tables as margayctl shows them.
//
// ParseFormat reads -o of get. The Format that it gives prints results that are there as a whole, or one list page by page,
// as the datastore reads it. Watch prints the changes of get --watch. format.go chooses among the formats, columns.go knows
// the columns of each kind, table.go aligns a table that grows, pages.go writes a list while it is read.
//
// The rest prints other things than objects: Section is a titled table of dump and status, Box a table in a frame as
// calicoctl draws it, Message an answer of the agent.
//
// The package knows neither the command line nor the datastore: it gets values and a writer. Texts and columns are those of
// calicoctl; scripts depend on them.
package print
