// Package workload is the command margayctl workload: it makes, shows and removes WorkloadEndpoints with their addresses, and collects
// those that are left over.
//
// Each command has a file of its own; workload.go assembles them. write.go makes all changes of a command in one transaction of the
// datastore, addresses included: there is no state in between that would have to be undone. addresses.go chooses and holds addresses.
//
// Endpoints carry the name of the command that made them. Another command leaves them alone.
package workload
