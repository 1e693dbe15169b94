// Package kvtest has a kv.KV in memory, for tests. It answers as etcd does: a test does the same random requests in both and
// compares every answer.
//
// It can do what is hard to bring about in etcd: Interrupt breaks the watches, Compact forgets the history, and Offline makes
// every request fail.
package kvtest
