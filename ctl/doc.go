// Command margayctl edits the objects of the datastore and shows what each node makes of them.
//
// Each verb has a file of its own, with its flags, its help and its function; root.go only assembles them. What verbs
// share: session.go is one run of the command with everything that it may touch, input.go reads manifests, work.go does
// a job to many objects in few transactions, atomic.go in one, report.go says how it fared, traps.go
// warns of what was written, agent.go talks to felix, choose.go is -l.
// docs.go writes docs/reference and the manual pages.
//
// Package print writes objects and tables, and package hints adds to an error what to try next; neither knows a session or a
// command. Package arguments checks how many arguments a command gets. Package ipam is the commands of ipam: ipam.go hands
// them what they may touch of a session.
//
// Messages, tables and exit codes of the verbs that edit objects are those of calicoctl; scripts depend on them.
// The command has no state of its own and decides nothing about objects: their rules are in package api, the order of
// writes in package datastore, and what a node does is asked of its agent.
package main
