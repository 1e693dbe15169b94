// Package datastore keeps the objects of package api in etcd, with the keys and values of an existing Calico datastore.
//
//	ctl, felix ── Store (objects: rules of each kind, wire form, compare-and-swap) ── kv.KV ─┬─ etcd.Client (a cluster, or embed)
//	      └────── Watch (batches of api.Update: list, watch, re-list)  ────────────────────  └─ kvtest.Memory (tests)
//
// Start reading at store.go for single objects, and at watch.go for the history that the agent follows. view.go turns listed entries
// and watched changes into updates; it has the difficult cases. Package kv is the interface to etcd, and package etcd the connection.
//
// transaction.go changes many objects in one revision. lock.go locks the whole datastore. archive.go moves it to another etcd.
//
// It is not a cache: every read goes to etcd. Package ipam keeps the records of addresses.
package datastore
