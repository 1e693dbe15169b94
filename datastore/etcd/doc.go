// Package etcd is the connection to an etcd cluster: kv.KV over the network. It knows only keys and values, and neither objects nor
// rules of the datastore.
//
// Start reading at client.go, which connects and implements kv.KV. connection.go decides when a request is repeated.
// session.go logs a user in, credentials.go does TLS, discovery.go finds the members by SRV records, and environment.go
// reads the settings that calicoctl reads too. The server inside of this process is package embed.
//
// It guarantees:
//
//   - A request goes to another member when one does not answer. A read may be repeated. A write is repeated only where
//     it cannot take effect twice; otherwise the error says that its outcome is not known.
//   - A watch reports every change in order, and never a part of a revision. It ends with an error when its connection is
//     lost: it does not go on by itself, because another cluster may answer at the same address.
//   - Certificates are read for each connection. While they cannot be read, the ones read before stay in use.
//   - A user logs in again when the token has expired.
//   - Members that the SRV records name are followed as the records change. A connection with TLS never becomes one without.
//   - An error is one line. It names the endpoints, the cause, and the setting to check.
package etcd
