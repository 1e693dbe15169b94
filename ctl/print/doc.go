// Package print writes objects and tables as margayctl shows them.
//
// ParseFormat parses -o of get and returns a Format, which prints complete results, or one list page by page while the
// datastore reads it. Watch prints the changes of get --watch. format.go chooses among the formats, columns.go knows the
// columns of each kind, table.go aligns a table that grows, pages.go writes a list while it is read.
//
// The other types and functions do not print objects: Section is a titled table of dump and status, Box a table in a frame as
// calicoctl draws it, Message an answer of the agent.
//
// The package knows neither the command line nor the datastore: it gets values and a writer. Texts and columns are those of
// calicoctl; scripts depend on them.
package print
