package bgp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// Types of messages, and of path attributes (RFC 4271, section 4).
const (
	msgOpen, msgUpdate, msgNotification, msgKeepalive = 1, 2, 3, 4
)

// message adds the header.
func message(kind byte, body ...byte) []byte {
	m := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	m = append(m, body...)
	binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
	return m
}

// update makes an UPDATE of withdrawn routes, attributes and announced routes.
func update(withdrawn, attributes, routes []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	body = append(body, withdrawn...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(attributes)))
	body = append(body, attributes...)
	return message(msgUpdate, append(body, routes...)...)
}

// attribute makes a path attribute whose length fits into a byte.
func attribute(flags, kind byte, value ...byte) []byte {
	return append([]byte{flags, kind, byte(len(value))}, value...)
}

var (
	goodOrigin  = attribute(0x40, 1, 0)
	goodPath    = attribute(0x40, 2, 2, 1, 0, 0, 0xfd, 0xe9) // one AS, 65001
	goodNextHop = attribute(0x40, 3, 10, 99, 0, 2)
	goodRoute   = []byte{24, 203, 0, 113}
)

func attributes(list ...[]byte) []byte { return bytes.Join(list, nil) }

// good has the attributes that every route needs, and more.
func good(more ...[]byte) []byte {
	return attributes(append([][]byte{goodOrigin, goodPath, goodNextHop}, more...)...)
}

// malformed is a corpus of messages that no correct speaker sends, each by its fault.
func malformed() map[string][]byte {
	wrongLength := func(m []byte, length uint16) []byte {
		m = slices.Clone(m)
		binary.BigEndian.PutUint16(m[16:], length)
		return m
	}
	plain := update(nil, good(), goodRoute)
	return map[string][]byte{
		"header: no marker":                        append(bytes.Repeat([]byte{0}, 16), plain[16:]...),
		"header: shorter than a header":            wrongLength(plain, 18),
		"header: shorter than an UPDATE":           wrongLength(plain, 20),
		"header: longer than allowed":              wrongLength(plain, 65535),
		"KEEPALIVE with a body":                    message(msgKeepalive, 1),
		"NOTIFICATION without a code":              message(msgNotification),
		"empty UPDATE":                             message(msgUpdate),
		"withdrawn: length beyond the end":         message(msgUpdate, 0xff, 0xff, 0, 0),
		"withdrawn: prefix of 33 bits":             update([]byte{33, 10, 0, 0, 0, 0}, nil, nil),
		"withdrawn: prefix cut off":                update([]byte{24, 10}, nil, nil),
		"attributes: length beyond the end":        message(msgUpdate, 0, 0, 0xff, 0xff, 0x40),
		"attributes: only a flag":                  update(nil, []byte{0x40}, nil),
		"attributes: value cut off":                update(nil, []byte{0x40, 1, 9, 0}, goodRoute),
		"attributes: extended length cut off":      update(nil, []byte{0x50, 1, 0}, goodRoute),
		"attributes: extended length too long":     update(nil, []byte{0x50, 2, 0xff, 0xff, 1}, goodRoute),
		"ORIGIN empty":                             update(nil, attributes(attribute(0x40, 1), goodPath, goodNextHop), goodRoute),
		"ORIGIN unknown":                           update(nil, attributes(attribute(0x40, 1, 77), goodPath, goodNextHop), goodRoute),
		"ORIGIN missing":                           update(nil, attributes(goodPath, goodNextHop), goodRoute),
		"ORIGIN with wrong flags":                  update(nil, attributes(attribute(0xc0, 1, 0), goodPath, goodNextHop), goodRoute),
		"attribute twice":                          update(nil, good(goodOrigin), goodRoute),
		"AS_PATH with a segment cut off":           update(nil, attributes(goodOrigin, attribute(0x40, 2, 2, 200, 0, 0), goodNextHop), goodRoute),
		"AS_PATH with an unknown segment":          update(nil, attributes(goodOrigin, attribute(0x40, 2, 99, 1, 0, 0, 0xfd, 0xe9), goodNextHop), goodRoute),
		"AS_PATH with an empty segment":            update(nil, attributes(goodOrigin, attribute(0x40, 2, 2, 0), goodNextHop), goodRoute),
		"AS_PATH of another AS":                    update(nil, attributes(goodOrigin, attribute(0x40, 2, 2, 1, 0, 0, 0, 1), goodNextHop), goodRoute),
		"AS_PATH of two bytes per AS":              update(nil, attributes(goodOrigin, attribute(0x40, 2, 2, 1, 0xfd, 0xe9), goodNextHop), goodRoute),
		"NEXT_HOP of 3 bytes":                      update(nil, attributes(goodOrigin, goodPath, attribute(0x40, 3, 10, 99, 0)), goodRoute),
		"NEXT_HOP 0.0.0.0":                         update(nil, attributes(goodOrigin, goodPath, attribute(0x40, 3, 0, 0, 0, 0)), goodRoute),
		"NEXT_HOP multicast":                       update(nil, attributes(goodOrigin, goodPath, attribute(0x40, 3, 224, 0, 0, 1)), goodRoute),
		"NEXT_HOP missing":                         update(nil, attributes(goodOrigin, goodPath), goodRoute),
		"MED of 3 bytes":                           update(nil, good(attribute(0x80, 4, 0, 0, 1)), goodRoute),
		"LOCAL_PREF over eBGP, empty":              update(nil, good(attribute(0x40, 5)), goodRoute),
		"ATOMIC_AGGREGATE with a value":            update(nil, good(attribute(0x40, 6, 1)), goodRoute),
		"AGGREGATOR of 1 byte":                     update(nil, good(attribute(0xc0, 7, 1)), goodRoute),
		"COMMUNITIES of 3 bytes":                   update(nil, good(attribute(0xc0, 8, 1, 2, 3)), goodRoute),
		"ORIGINATOR_ID of 1 byte":                  update(nil, good(attribute(0x80, 9, 1)), goodRoute),
		"CLUSTER_LIST of 3 bytes":                  update(nil, good(attribute(0x80, 10, 1, 2, 3)), goodRoute),
		"MP_REACH empty":                           update(nil, good(attribute(0x80, 14)), nil),
		"MP_REACH with a next hop cut off":         update(nil, good(attribute(0x80, 14, 0, 2, 1, 16, 0xfd)), nil),
		"MP_REACH of an unknown family":            update(nil, good(attribute(0x80, 14, 0x7f, 0xff, 99, 0, 0, 1)), nil),
		"MP_REACH with a prefix of 200 bits":       update(nil, good(attribute(0x80, 14, append([]byte{0, 2, 1, 16}, append(make([]byte, 17), 200, 1)...)...)), nil),
		"MP_REACH of a family that was not opened": update(nil, good(attribute(0x80, 14, append([]byte{0, 2, 1, 16}, append(make([]byte, 17), 8, 0x20)...)...)), nil),
		"MP_REACH of EVPN cut off":                 update(nil, good(attribute(0x80, 14, 0, 25, 70, 4, 1, 2, 3, 4, 0, 2, 33)), nil),
		"MP_REACH of FlowSpec cut off":             update(nil, good(attribute(0x80, 14, 0, 1, 133, 0, 0, 5, 1)), nil),
		"MP_REACH of labels cut off":               update(nil, good(attribute(0x80, 14, 0, 1, 4, 4, 1, 2, 3, 4, 0, 24, 1)), nil),
		"MP_REACH of link state cut off":           update(nil, good(attribute(0x80, 14, 0x40, 4, 71, 4, 1, 2, 3, 4, 0, 0, 1, 0, 30, 1)), nil),
		"MP_UNREACH of 2 bytes":                    update(nil, good(attribute(0x80, 15, 0, 2)), nil),
		"MP_UNREACH with a prefix cut off":         update(nil, good(attribute(0x80, 15, 0, 2, 1, 128, 1)), nil),
		"EXTENDED_COMMUNITIES of 7 bytes":          update(nil, good(attribute(0xc0, 16, 1, 2, 3, 4, 5, 6, 7)), goodRoute),
		"AS4_PATH cut off":                         update(nil, good(attribute(0xc0, 17, 2, 9, 0)), goodRoute),
		"PMSI_TUNNEL cut off":                      update(nil, good(attribute(0xc0, 22, 0)), goodRoute),
		"TUNNEL_ENCAP cut off":                     update(nil, good(attribute(0xc0, 23, 0, 1, 0, 99, 1)), goodRoute),
		"IPv6 EXTENDED_COMMUNITIES of 19 bytes":    update(nil, good(attribute(0xc0, 25, make([]byte, 19)...)), goodRoute),
		"AIGP cut off":                             update(nil, good(attribute(0x80, 26, 1, 0, 11, 0)), goodRoute),
		"LINK_STATE cut off":                       update(nil, good(attribute(0x80, 29, 4, 2, 0, 99, 1)), goodRoute),
		"LARGE_COMMUNITIES of 11 bytes":            update(nil, good(attribute(0xc0, 32, make([]byte, 11)...)), goodRoute),
		"PREFIX_SID cut off":                       update(nil, good(attribute(0xc0, 40, 1, 0, 9, 1)), goodRoute),
		"unknown attribute that is well-known":     update(nil, good(attribute(0x40, 200, 1, 2, 3)), goodRoute),
		"route: prefix of 33 bits":                 update(nil, good(), []byte{33, 1, 2, 3, 4, 5}),
		"route: prefix of 255 bits":                update(nil, good(), bytes.Repeat([]byte{255}, 33)),
		"route: prefix cut off":                    update(nil, good(), []byte{32, 1}),
		"route: class E and loopback":              update(nil, good(), []byte{8, 127, 4, 0xf0}),
		"a long AS_PATH":                           update(nil, attributes(goodOrigin, append([]byte{0x50, 2, 0x03, 0xfe, 2, 255}, make([]byte, 1020)...), goodNextHop), goodRoute),
	}
}

// mutations changes bytes behind the header of correct and malformed messages at random. GoBGP parses every family of the
// standard, also those that a session does not have.
func mutations(seed uint64, count int) map[string][]byte {
	random := rand.New(rand.NewPCG(seed, 0))
	corpus := malformed()
	names := []string{}
	for name := range corpus {
		names = append(names, name)
	}
	slices.Sort(names)
	found := map[string][]byte{}
	for i := range count {
		name := names[random.IntN(len(names))]
		m := slices.Clone(corpus[name])
		for range 1 + random.IntN(4) {
			if len(m) > 19 {
				m[19+random.IntN(len(m)-19)] = byte(random.Uint32())
			}
		}
		m = append(m, make([]byte, random.IntN(9))...)
		binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
		found[fmt.Sprintf("mutation %d of seed %d, from %q", i, seed, name)] = m
	}
	return found
}

// A peer that sends malformed messages must not end the process, or hold up other peers. Each message comes over a session of its own.
// MARGAY_BGP_TEST_MUTATIONS is the number of random ones, and MARGAY_BGP_TEST_SEED is from where they are drawn: it is the same each time
// otherwise, so that a change cannot fail by a message that has nothing to do with it.
func TestMalformedMessagesDoNotEndTheProcess(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	seed, count := uint64(1), 100
	for variable, value := range map[string]any{"MARGAY_BGP_TEST_MUTATIONS": &count, "MARGAY_BGP_TEST_SEED": &seed} {
		if text := os.Getenv(variable); text != "" {
			if _, err := fmt.Sscan(text, value); err != nil {
				t.Fatalf("%s: %v", variable, err)
			}
		}
	}
	t.Logf("seed %d", seed)
	messages := malformed()
	for name, m := range mutations(seed, count) {
		messages[name] = m
	}
	for name, m := range messages {
		if where := panicsIn(m); slices.Contains(knownPanics, where) && strings.HasPrefix(name, "mutation") {
			delete(messages, name) // see deadly
		} else if where != "" {
			t.Fatalf("%s ends the process, in %s\n%s", name, where, hex.EncodeToString(m))
		}
	}
	s := run(t, l.host, "speaker")
	n := only4(func(p *calc.Peer) { p.Passive = true })
	names := []string{}
	for name := range messages {
		names = append(names, name)
	}
	slices.Sort(names)
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, byte(1 + i/250), byte(1 + i%250)}) }
	l.host.Up(cable, "10.99.0.1/16")
	for i, name := range names {
		l.router.Up(cable, address(i).String()+"/16")
		n.Peers[fmt.Sprint("p", i)] = calc.Peer{Object: name, Address: address(i), AS: routerAS, Passive: true}
	}
	s.apply(t, n)
	var all sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, name := range names {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := l.router.Do(func() error { return misbehave(address(i), messages[name]) })
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, hex.EncodeToString(messages[name]))
			}
		})
	}
	all.Wait()
	select {
	case <-s.Ended():
		t.Fatalf("the speaker has ended: %v", s.Wait())
	default:
	}
	if st := s.status(t); len(st) != len(names)+1 {
		t.Errorf("%d peers in the status, want %d", len(st), len(names)+1)
	}
	l.router.Must(func() error { // a correct peer is served
		conn, err := openSession(addr(router4))
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			_, err = conn.Write(update(nil, good(), goodRoute))
		}
		return err
	})
	got := learnedBy{}
	lab.Await(t, func() error {
		if !got.from(t, s)[prefix("203.0.113.0/24")] {
			return fmt.Errorf("learned: %v", got)
		}
		return nil
	})
}

// misbehave opens a session from an address and sends a message, and then zeros, which begin no message and are enough for every length
// that a message may claim. It returns when the speaker has closed the session. An error means that the speaker does not answer any more.
func misbehave(from netip.Addr, m []byte) error {
	conn, err := openSession(from)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = conn.Write(append(m, make([]byte, 1<<17)...)) // it may close the session at any byte
	for {
		kind, err := readMessage(conn)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return errors.New("no answer")
		case err != nil || kind == msgNotification:
			return nil
		}
	}
}

// openSession opens a session with the speaker from an address.
func openSession(from netip.Addr) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: lab.Patience}
	conn, err = d.Dial("tcp4", host4+":179")
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(lab.Patience))
	id := from.As4()
	// An OPEN with the capabilities IPv4 unicast and four-octet AS numbers (RFC 5492).
	open := append([]byte{4, 0xfd, 0xe9, 0, 90}, id[:]...)
	open = append(open, 14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xe9)
	if _, err = conn.Write(append(message(msgOpen, open...), message(msgKeepalive)...)); err != nil {
		conn.Close()
		return nil, err
	}
	for kind := byte(0); kind != msgKeepalive; {
		if kind, err = readMessage(conn); err == nil && kind == msgNotification {
			err = errors.New("the speaker refused the session")
		}
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("open the session: %w", err)
		}
	}
	return conn, nil
}

func readMessage(from io.Reader) (kind byte, err error) {
	header := make([]byte, 19)
	if _, err := io.ReadFull(from, header); err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, from, int64(binary.BigEndian.Uint16(header[16:]))-19)
	return header[18], err
}

// deadly has messages on which GoBGP v3.37.0 panics, on a goroutine of its own where nobody can recover. There is no later v3, and v4
// has mended them.
func deadly() map[string][]byte {
	return map[string][]byte{
		"header: unknown type":            message(9, 1, 2, 3),
		"OPEN in an established session":  message(msgOpen, 4, 0xfd, 0xe9, 0, 90, 10, 99, 0, 2, 0),
		"MP_REACH without a next hop":     update(nil, good(attribute(0x80, 14, 0, 2, 1)), goodRoute),
		"MP_REACH of VPN cut off":         update(nil, good(attribute(0x80, 14, 0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 120, 1)), nil),
		"PREFIX_SID with an empty SRv6":   update(nil, good(attribute(0xc0, 40, 5, 0, 0, 0, 0, 0, 0)), goodRoute),
		"PREFIX_SID with SRv6 of 4 bytes": update(nil, good(attribute(0xc0, 40, 5, 0, 4, 0, 1, 0, 0)), goodRoute),
	}
}

// panicsIn parses a message as GoBGP does, and returns the function of GoBGP that panics.
func panicsIn(m []byte) (function string) {
	defer func() {
		if recover() == nil {
			return
		}
		for line := range strings.SplitSeq(string(debug.Stack()), "\n") {
			if name, ok := strings.CutPrefix(line, "github.com/osrg/gobgp/v3/pkg/packet/bgp."); ok {
				function = name[:strings.LastIndex(name, "(")]
				return
			}
		}
		function = "unknown"
	}()
	var header gobgp.BGPHeader
	if header.DecodeFromBytes(m[:19]) != nil || int(header.Len) > len(m) {
		return ""
	}
	body := make([]byte, header.Len-19) // exactly as large as what GoBGP reads
	copy(body, m[19:])
	switch parsed, err := gobgp.ParseBGPBody(&header, body); {
	case err == nil && parsed.Header.Type == msgOpen:
		return "(*peer).handleUpdate" // it takes every message without an answer of its own for an UPDATE
	case err == nil:
		_ = gobgp.ValidateBGPMessage(parsed)
	case parsed == nil:
		return "(*fsmHandler).handlingError" // it looks into the message that is not there
	}
	return ""
}

// The parts of GoBGP in which deadly messages end the process. A panic anywhere else is news.
var knownPanics = []string{
	"(*fsmHandler).handlingError", "(*peer).handleUpdate", "(*PathAttributeMpReachNLRI).DecodeFromBytes", "GetRouteDistinguisher",
	"(*SRv6ServiceTLV).DecodeFromBytes", "(*SRv6InformationSubTLV).DecodeFromBytes",
}

// A message that ends the process costs no routes: other peers keep those of the node until it is back.
func TestOtherNeighboursKeepRoutesWhenAMessageEndsTheProcess(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), impatient(birdConfig(routerAS)))
	l.router.Up(cable, "10.99.0.9/24")
	n := node(routerAS)
	n.Peers["hostile"] = calc.Peer{Address: addr("10.99.0.9"), AS: routerAS, Passive: true}
	changes := followRoutes(l)
	s := run(t, l.host, "speaker")
	s.apply(t, n)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
	changes.await(t, block4, block6)
	for name, m := range deadly() {
		if where := panicsIn(m); !slices.Contains(knownPanics, where) {
			t.Errorf("%s: panics in %q; move it to the corpus, and correct docs/operations.md", name, where)
			continue
		}
		_ = l.router.Do(func() error { return misbehave(addr("10.99.0.9"), m) })
		lab.Until(t, "the end of the speaker", func() bool {
			select {
			case <-s.Ended():
				return true
			default:
				return false
			}
		})
		s = run(t, l.host, "restarted speaker")
		s.apply(t, n)
		lab.Await(t, func() error {
			for _, st := range s.status(t) {
				if st.Name != "hostile" && (st.State != "Established" || st.Announced == 0) {
					return fmt.Errorf("%+v", st)
				}
			}
			return nil
		})
	}
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}
}
