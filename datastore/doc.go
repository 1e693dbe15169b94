// Package datastore keeps the objects of package api in etcd, with the keys and values of an existing Calico datastore.
//
//	ctl, felix ── Store (objects: rules of each kind, wire form, compare-and-swap) ── kv.KV ─┬─ etcd.Client (a cluster, or embed)
//	      └────── Watch (batches of api.Update: list, watch, re-list)  ────────────────────  └─ kvtest.Memory (tests)
//
// Start reading at store.go for single objects, at watch.go for the history that the agent follows; view.go turns what is
// listed and watched into updates and is the part worth testing hard. Package kv is all that is asked of etcd, and package
// etcd connects to it.
//
// transaction.go makes changes of many objects in one revision, lock.go is the lock of the whole datastore, archive.go moves
// it to another etcd.
//
// It is not a cache: nothing here answers a question from memory. Addresses are given out by datastore/ipam.
package datastore
