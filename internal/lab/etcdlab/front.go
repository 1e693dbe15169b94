package etcdlab

import (
	"crypto/tls"
	"net"
	"testing"
)

// Front passes connections to a TCP port on to a unix socket, through TLS if that is configured, until they are cut.
func Front(t testing.TB, socket string, secure *tls.Config) (address string, disconnect func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	open := make(chan net.Conn, 1000)
	disconnect = func() {
		for {
			select {
			case conn := <-open:
				_ = conn.Close()
			default:
				return
			}
		}
	}
	t.Cleanup(func() {
		_ = listener.Close()
		disconnect()
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("unix", socket)
			if err != nil {
				_ = conn.Close()
				continue
			}
			open <- conn
			go pipe(inner, conn)
			go pipe(conn, inner)
		}
	}()
	return address, disconnect
}

func pipe(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}
