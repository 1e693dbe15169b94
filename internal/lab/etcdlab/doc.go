// Package etcdlab is an etcd cluster for tests: real servers, each a process in a network namespace of its own, with a
// switch between them that can be split, and ways to hurt them. Nothing of it outlives the test, however that ends: the
// processes die with the thread that started them, and the namespaces have no names.
//
// A test binary that uses it calls BecomeMember first thing in its TestMain.
package etcdlab
