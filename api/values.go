package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Protocol is an IP protocol, as a number or as a name. It keeps the form in which it was written.
type Protocol struct {
	Number uint8  // 1 to 255; used if Name is empty
	Name   string // TCP, UDP, ICMP, ICMPv6, SCTP or UDPLite, in upper or lower case
}

var protocolNumbers = map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}

// Value returns the protocol's number. It returns false if the name is not known, or the number is 0.
func (p Protocol) Value() (uint8, bool) {
	if p.Name == "" {
		return p.Number, p.Number != 0
	}
	n, ok := protocolNumbers[strings.ToLower(p.Name)]
	return n, ok
}

func (p Protocol) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(int(p.Number))
}

func (p Protocol) MarshalJSON() ([]byte, error) {
	if p.Name != "" {
		return json.Marshal(p.Name)
	}
	return json.Marshal(p.Number)
}

func (p *Protocol) UnmarshalJSON(text []byte) error {
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return json.Unmarshal(text, &p.Number)
	}
	*p = parseProtocol(name)
	return nil
}

func parseProtocol(text string) Protocol {
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return Protocol{Number: uint8(n)}
	}
	return Protocol{Name: text}
}

// DSCP is a Differentiated Services code point (RFC 2474), as a number or as the name of a class such as EF or AF11.
type DSCP struct {
	Number uint8 // used if Name is empty
	Name   string
}

// ParseDSCP parses a number or a name. It does not check whether a class of this name exists.
func ParseDSCP(text string) DSCP { return DSCP(parseProtocol(text)) }

func (d DSCP) String() string                   { return Protocol(d).String() }
func (d DSCP) MarshalJSON() ([]byte, error)     { return Protocol(d).MarshalJSON() }
func (d *DSCP) UnmarshalJSON(text []byte) error { return (*Protocol)(d).UnmarshalJSON(text) }

// Port is a port, a range of ports with both ends included, or the name of a port of an endpoint.
type Port struct {
	First, Last uint16 // equal for a single port; both 0 if Name is given
	Name        string
}

func (p Port) String() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.First == p.Last:
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d:%d", p.First, p.Last)
}

func (p Port) MarshalJSON() ([]byte, error) {
	if p.Name == "" && p.First == p.Last {
		return json.Marshal(p.First)
	}
	return json.Marshal(p.String())
}

func (p *Port) UnmarshalJSON(text []byte) error {
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		var number uint16
		if err := json.Unmarshal(text, &number); err != nil {
			return fmt.Errorf("port %s: want a number from 1 to 65535, a range like 8000:8010, or a name", text)
		}
		*p = Port{First: number, Last: number}
		return nil
	}
	parsed, err := ParsePort(name)
	*p = parsed
	return err
}

// ParsePort parses a port as manifests write it: 80, 8000:8010 or a name.
func ParsePort(text string) (Port, error) {
	low, high, isRange := strings.Cut(text, ":")
	first, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		if isRange || (low != "" && strings.Trim(low, "0123456789") == "") {
			return Port{}, fmt.Errorf("port %q: want 1 to 65535", text)
		}
		return Port{Name: text}, nil
	}
	if !isRange {
		return Port{First: uint16(first), Last: uint16(first)}, nil
	}
	last, err := strconv.ParseUint(high, 10, 16)
	if err != nil || last < first {
		return Port{}, fmt.Errorf("port range %q: want LOW:HIGH with 1 <= LOW <= HIGH <= 65535", text)
	}
	return Port{First: uint16(first), Last: uint16(last)}, nil
}

// ASNumber is the number of a BGP autonomous system: 0 to 4294967295. Manifests write it as a number, as text, or as HIGH.LOW with
// 16 bits each (RFC 5396).
type ASNumber uint32

func (a *ASNumber) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return json.Unmarshal(text, (*uint32)(a))
	}
	high, low, dotted := strings.Cut(s, ".")
	if !dotted {
		n, err := strconv.ParseUint(s, 10, 32)
		*a = ASNumber(n)
		return err
	}
	h, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return fmt.Errorf("AS number %q: %w", s, err)
	}
	l, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return fmt.Errorf("AS number %q: %w", s, err)
	}
	*a = ASNumber(h<<16 | l)
	return nil
}
