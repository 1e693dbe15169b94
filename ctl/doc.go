// Command margayctl edits the objects of the datastore and shows what each node enforces and announces.
//
// Each verb has a file of its own, with its flags, its help and its function; root.go only assembles them. These files are
// shared by the verbs:
//
//	session.go  one run of the command, with everything outside of the process that it uses
//	input.go    reads manifests
//	work.go     does a job to many objects in few transactions
//	atomic.go   does a job to all objects in one transaction
//	report.go   prints the outcome
//	traps.go    warns of written objects that do not fit the rest of the datastore
//	agent.go    talks to felix
//	choose.go   -l
//	docs.go     writes docs/reference and the manual pages
//
// Package print writes objects and tables, and package hints adds to an error what to try next; neither knows a session or a
// command. Package arguments checks how many arguments a command gets. Package ipam holds the commands of ipam; ipam.go gives
// them the parts of a session that they use.
//
// Messages, tables and exit codes of the verbs that edit objects are those of calicoctl; scripts depend on them.
// The command has no state of its own. The rules for objects are in package api, and the order of writes in package datastore.
// The state of a node comes from its agent.
package main
