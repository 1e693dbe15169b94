// Package kv is the interface to etcd: entries, revisions, commits and watches. It knows nothing about the stored values. Packages
// datastore and datastore/ipam share it; package datastore/etcd implements it.
package kv
