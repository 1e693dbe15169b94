package api

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// utf8Text removes the byte order mark of a text. It converts a text with the mark of UTF-16, which some editors and shells write,
// to UTF-8.
func utf8Text(data []byte) []byte {
	orders := []struct {
		mark  string
		order binary.ByteOrder
	}{{"\xff\xfe", binary.LittleEndian}, {"\xfe\xff", binary.BigEndian}}
	for _, o := range orders {
		rest, ok := bytes.CutPrefix(data, []byte(o.mark))
		if !ok || len(rest)%2 != 0 {
			continue
		}
		units := make([]uint16, len(rest)/2)
		for i := range units {
			units[i] = o.order.Uint16(rest[2*i:])
		}
		return []byte(string(utf16.Decode(units)))
	}
	return bytes.TrimPrefix(data, []byte("\ufeff"))
}

// notText returns an error that names the first byte that is not valid in a manifest. A parser would replace it, or report an
// error without its position.
func (c chunk) notText() error {
	at := 0
	if !utf8.Valid(c.text) {
		for {
			r, size := utf8.DecodeRune(c.text[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		return fmt.Errorf("line %d: byte 0x%02x is not UTF-8: save the file as UTF-8 text", c.lineOf(at), c.text[at])
	}
	control := func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }
	if at = bytes.IndexFunc(c.text, control); at >= 0 {
		return fmt.Errorf("line %d: byte 0x%02x is not text: want a manifest in YAML or JSON, as UTF-8", c.lineOf(at), c.text[at])
	}
	return nil
}

// lineOf returns the line in the whole input, from 1, of a byte of the chunk.
func (c chunk) lineOf(at int) int {
	return c.line + 1 + bytes.Count(c.text[:at], []byte("\n"))
}
