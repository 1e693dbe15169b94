package api

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
)

func inUTF16(order binary.AppendByteOrder, text string) []byte {
	data := order.AppendUint16(nil, 0xfeff)
	for _, unit := range utf16.Encode([]rune(text)) {
		data = order.AppendUint16(data, unit)
	}
	return data
}

func TestTextInOtherEncodingsIsRead(t *testing.T) {
	t.Parallel()
	text := "apiVersion: projectcalico.org/v3\r\nkind: Tier\r\nmetadata: {name: a, annotations: {x: é漢😀}}\r\n---\r\n" +
		"apiVersion: projectcalico.org/v3\r\nkind: Tier\r\nmetadata: {name: b}\r\n"
	for name, data := range map[string][]byte{
		"UTF-8":                []byte(text),
		"UTF-8 with a mark":    []byte("\ufeff" + text),
		"UTF-16 little endian": inUTF16(binary.LittleEndian, text),
		"UTF-16 big endian":    inUTF16(binary.BigEndian, text),
	} {
		objects, err := Decode(data)
		if err != nil || len(objects) != 2 || objects[0].Meta().Annotations["x"] != "é漢😀" || objects[1].Meta().Name != "b" {
			t.Errorf("%s: %v, error %v", name, objects, err)
		}
	}
}

func TestBytesThatAreNotTextAreNamedWithTheirLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		head + "spec:\n  selector: x == 'caf\xe9'\n":        `document 1: line 6: byte 0xe9 is not UTF-8: save the file as UTF-8 text`,
		"{\"kind\": \"Tier\",\n\"x\": \"caf\xe9\"}":         `document 1: line 2: byte 0xe9 is not UTF-8`,
		"\n---\nkind: Tier\n---\n\x7fELF\x02\x01\x01\x00\n": `document 2: line 5: byte 0x02 is not text: want a manifest in YAML or JSON, as UTF-8`,
		"k\x00i\x00n\x00d\x00":                              `document 1: line 1: byte 0x00 is not text`,
		"\xff\xfek":                                         `document 1: line 1: byte 0xff is not UTF-8`,
		"\xff\xfe\x00\x00k\x00\x00\x00":                     `document 1: line 1: byte 0x00 is not text`,
	} {
		if objects, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v\nwant %s", text, objects, err, want)
		}
	}
}

func TestMistakesInJSONHaveALine(t *testing.T) {
	t.Parallel()
	text := "\n{\n\"apiVersion\": \"projectcalico.org/v3\",\n\"kind\": \"Tier\",\n\"metadata\": {\"name\": \"t\"},\n\"spec\": {\n\"order\": \"x\"\n}\n}\n"
	for before, line := range map[string]int{"": 7, "# first\n---\n": 9} {
		_, err := Decode([]byte(before + text))
		want := fmt.Sprintf(`document 1, Tier t, line %d: spec.order: want a number, not the text "x"`, line)
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestJSONObjectsMayFollowEachOther(t *testing.T) {
	t.Parallel()
	tier := func(name string) string {
		return `{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"` + name + `"}}`
	}
	objects, err := Decode([]byte(tier("a") + "\n" + tier("b") + tier("c") + "\n---\n" + tier("d")))
	if err != nil || len(objects) != 4 || objects[3].Meta().Name != "d" {
		t.Errorf("%v, error %v", objects, err)
	}
	for _, broken := range []string{tier("a") + "\n{", tier("a") + " x", `{"a"`, `[{"a":1}`, `[1,]`, `{"a":1,}x`, `{"a" 1}`} {
		if objects, err := Decode([]byte(broken)); err == nil {
			t.Errorf("%s: %v", broken, objects)
		}
	}
}

func TestARepeatedMistakeIsReportedALimitedNumberOfTimes(t *testing.T) {
	t.Parallel()
	rules := head + "spec:\n  ingress:\n" + strings.Repeat("  - {actoin: Allow}\n", 1000)
	documents := strings.Repeat("kind: Teir\n---\n", 1000)
	for _, text := range []string{rules, documents} {
		_, err := Decode([]byte(text))
		lines := strings.Split(fmt.Sprint(err), "\n")
		if len(lines) != maxProblems+1 || lines[maxProblems] != "there are more errors: correct these first" {
			t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
		}
	}
}
