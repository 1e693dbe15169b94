// Command generate writes the layouts of a C header as Go. It finds the names of structs, enums and numbers in the header,
// and the types in the BTF of an object that was compiled with it.
//
//	generate <header> <object> <output>
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: generate <header> <object> <output>")
	}
	if err := generate(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatalf("generate %s: %v", os.Args[3], err)
	}
}

func generate(header, object, output string) error {
	text, err := os.ReadFile(header)
	if err != nil {
		return err
	}
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		return err
	}
	w := &writer{types: spec.Types, formatter: btf.GoFormatter{Names: map[btf.Type]string{}, Identifier: fieldName}}
	if err := w.write(text); err != nil {
		return err
	}
	source, err := format.Source(w.out.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(output, source, 0o644)
}

// writer collects the Go source. The names of its formatter are those of all structs, so that one may contain another.
type writer struct {
	types     *btf.Spec
	formatter btf.GoFormatter
	out       bytes.Buffer
}

func (w *writer) write(header []byte) error {
	fmt.Fprint(&w.out, "// Code generated from layout.h by bpf/layout/generate; DO NOT EDIT.\n\npackage layout\n\nimport \"structs\"\n\n")
	w.numbers(header)
	for _, name := range names(header, `(?m)^enum (\w+) \{`) {
		if err := w.enum(name); err != nil {
			return err
		}
	}
	structs := names(header, `(?m)^struct (\w+) \{`)
	for _, name := range structs {
		s, err := find[*btf.Struct](w.types, name)
		if err != nil {
			return err
		}
		w.formatter.Names[s] = goName(name)
	}
	for _, name := range structs {
		if err := w.structure(name); err != nil {
			return err
		}
	}
	return nil
}

// numbers writes the macros that are decimal numbers. BTF has no macros.
func (w *writer) numbers(header []byte) {
	fmt.Fprint(&w.out, "// Numbers that layout.h defines.\nconst (\n")
	for _, m := range regexp.MustCompile(`(?m)^#define (\w+)\s+(\d+)\b`).FindAllSubmatch(header, -1) {
		fmt.Fprintf(&w.out, "%s = %s\n", goName(string(m[1])), m[2])
	}
	fmt.Fprint(&w.out, ")\n\n")
}

// enum writes constants without a type: the fields that hold them have several sizes.
func (w *writer) enum(name string) error {
	e, err := find[*btf.Enum](w.types, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "// Values of enum %s.\nconst (\n", name)
	for _, v := range e.Values {
		fmt.Fprintf(&w.out, "%s = %d\n", goName(v.Name), v.Value)
	}
	fmt.Fprint(&w.out, ")\n\n")
	return nil
}

func (w *writer) structure(name string) error {
	s, err := find[*btf.Struct](w.types, name)
	if err != nil {
		return err
	}
	text, err := w.formatter.TypeDeclaration(goName(name), s)
	if err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "// %s is struct %s.\n%s\n\n", goName(name), name, text)
	return nil
}

// names returns what the group of a pattern matches in the header, in its order.
func names(header []byte, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(header, -1) {
		all = append(all, string(m[1]))
	}
	return all
}

func find[T btf.Type](types *btf.Spec, name string) (found T, err error) {
	if err := types.TypeByName(name, &found); err != nil {
		return found, fmt.Errorf("%s: %w", name, err)
	}
	return found, nil
}

// fieldName turns icmp_type into IcmpType, as bpf2go does.
func fieldName(c string) string {
	words := strings.Split(c, "_")
	for i, word := range words {
		words[i] = capitalized(word)
	}
	return strings.Join(words, "")
}

// goName turns DROP_NOT_IP into DropNotIP, and point_page into PointPage.
func goName(c string) string {
	words := strings.Split(strings.ToLower(c), "_")
	for i, word := range words {
		words[i] = goWord(word)
	}
	return strings.Join(words, "")
}

func goWord(word string) string {
	capitals := []string{"arp", "dhcp", "icmp", "ip", "ipip", "mac", "sctp", "tcp", "udp", "vxlan"}
	if slices.Contains(capitals, word) {
		return strings.ToUpper(word)
	}
	mixed := map[string]string{"icmpv6": "ICMPv6", "ipv6": "IPv6", "prednat": "PreDNAT", "udplite": "UDPLite"}
	if spelled, ok := mixed[word]; ok {
		return spelled
	}
	return capitalized(word)
}

func capitalized(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
