// Package kvtest has a kv.KV in memory, for tests. It answers like etcd: a test sends the same random requests to both and compares
// every answer.
//
// It can cause conditions that are hard to cause in etcd: Interrupt breaks the watches, Compact deletes the history, and Offline
// makes every request fail. A Faulty disturbs the calls of one program, over any KV: it lets them fail, loses their answers, or lets
// the program die.
package kvtest
