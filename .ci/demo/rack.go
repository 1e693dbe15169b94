package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/margay-project/margay/internal/lab"
)

// block2 is the block of host2.
var block2 = netip.MustParsePrefix("10.65.0.64/26")

func (s *story) secondHost() error {
	s.web2.Echo(80)
	fmt.Printf("\n# on host2:  felix --node-name host2 --etcd-endpoints %s ...\n", s.etcd())
	if _, err := s.command("apply", "-f", "docs/examples/second-host.yaml"); err != nil {
		return err
	}
	if _, err := s.startAgent(s.ctx, s.host2, "--etcd-endpoints", s.etcd()); err != nil {
		return err
	}
	s.awaitGateway(s.host1, block2, host2IP)
	s.awaitGateway(s.host2, block, hostIP)
	s.expect(
		try{s.web2, dbIP, "tcp", 5432, true, "web to db by labels, from host to host"},
		try{s.web2, batchIP, "tcp", 80, false, "end of tier default"},
		try{s.client, web2IP, "tcp", 80, true, "web"},
		try{s.client, web2IP, "tcp", 8005, false, "web, the Deny before the range"},
	)
	_, _ = s.command("dump", "routes") // it exits with 1 for the domain rule
	return nil
}

func (s *story) betweenRouters() error {
	if !s.passesOn {
		fmt.Println("  left out: the router passes no routes on (BIRD is not installed)")
		return nil
	}
	db := netip.MustParseAddr(dbIP)
	conn, err := s.web2.Dial("tcp", db, 5432)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := s.command("apply", "-f", "docs/examples/no-mesh.yaml"); err != nil {
		return err
	}
	s.awaitGateway(s.host1, block2, routerIP)
	s.awaitGateway(s.host2, block, routerIP)
	s.check(lab.Answered(conn), "the TCP connection web2 -> db:5432, opened before, still works")
	s.expect(try{s.web2, dbIP, "tcp", 5432, true, "by the router"})
	return nil
}

// move takes the VM web from host1 to host2, as a live migration does: the VM and its connections go on.
func (s *story) move() error {
	conn, err := s.client.Dial("tcp", netip.MustParseAddr(webIP), 80)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.check(lab.Answered(conn), "a TCP connection client -> web:80 works")
	fmt.Println("\n# web's interface goes from host1 to host2")
	s.webVM.Move(s.host2.Host, "cali-web")
	for _, args := range [][]string{
		{"apply", "-f", "docs/examples/web-on-host2.yaml"},
		{"delete", "workloadendpoint", "host1-libvirt-web-eth0", "-n", "shop"},
	} {
		if _, err := s.command(args...); err != nil {
			return err
		}
	}
	began := time.Now()
	s.check(lab.Answered(conn), "the TCP connection client -> web:80 goes on, %s after the change", milliseconds(time.Since(began)))
	s.expect(
		try{s.client, webIP, "tcp", 80, true, "on host2"},
		try{s.client, webIP6, "tcp", 80, true, "on host2, IPv6"},
		try{s.client, webIP, "tcp", 8005, false, "on host2"},
		try{s.web, dbIP, "tcp", 5432, true, "from host2 to host1"},
	)
	return nil
}

func (s *story) etcd() string { return strings.TrimPrefix(s.env[1], "ETCD_ENDPOINTS=") }

// awaitGateway waits until a host routes a block by a gateway.
func (s *story) awaitGateway(h *host, block netip.Prefix, gateway string) {
	s.check(s.eventually(40*time.Second, func() bool {
		by, err := h.gateway(block)
		return err == nil && by == gateway
	}), "%s routes %v by %s", h.name, block, gateway)
}
