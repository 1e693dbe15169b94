// Package kv says what is asked of etcd, and nothing else: entries, revisions, commits and watches. What is stored is the
// business of package datastore and of datastore/ipam, which share it.
package kv
