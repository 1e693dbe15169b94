// Package etcdlab has etcd for labs: StartServer starts one server in the test's process, StartCluster a cluster of real
// servers, each a process on a host of its own, with a switch between them that can be split, and ways to hurt them. Nothing of
// it outlives the test, however that ends.
//
// A test binary that starts clusters calls BecomeMember first thing in its TestMain.
package etcdlab
