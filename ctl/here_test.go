package main

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheInterfacesOfThisMachineHaveNames(t *testing.T) {
	t.Parallel()
	names, err := linksHere()
	if err != nil || !names["lo"] {
		t.Error(names, err)
	}
}

func TestAlternativeNamesAreRead(t *testing.T) {
	t.Parallel()
	name := func(kind uint16, text string) []byte {
		attribute := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(text)+1))
		attribute = append(binary.NativeEndian.AppendUint16(attribute, kind), text...)
		return append(attribute, make([]byte, 4-len(text)%4)...) // the final zero, and space up to a multiple of 4
	}
	list := slices.Concat(name(unix.IFLA_ALT_IFNAME, "enp3s0"), name(unix.IFLA_IFNAME, "other"), name(unix.IFLA_ALT_IFNAME, "vm-web-eth0"))
	if got := alternativeNames(list); !slices.Equal(got, []string{"enp3s0", "vm-web-eth0"}) {
		t.Error(got)
	}
	for cut := range list { // never beyond the end
		alternativeNames(list[:cut])
	}
}
