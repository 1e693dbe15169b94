package bpf

import (
	"slices"
	"strings"
	"testing"
)

func TestFormerSettingsAreRememberedWithThePins(t *testing.T) {
	dir := pinDir(t)
	open := func() *FormerSettings {
		f, err := OpenFormerSettings(dir)
		must(t, err)
		return f
	}
	f := open()
	forward := FormerSetting{Path: "net/ipv4/ip_forward", Before: "0", Changed: "1"}
	proxy := FormerSetting{Path: "net/ipv4/conf/cali1/proxy_arp", Interface: 7, Before: "0", Changed: "1"}
	must(t, f.Remember(forward))
	must(t, f.Remember(proxy))
	must(t, f.Close())
	f = open()
	must(t, f.Remember(FormerSetting{Path: forward.Path, Before: "1", Changed: "2"}))
	forward.Changed = "2" // the first Before and the last Changed stay
	if f.Remember(FormerSetting{Path: strings.Repeat("x", 125)}) == nil {
		t.Error("a path that does not fit is remembered")
	}
	want := []FormerSetting{proxy, forward}
	all, err := f.All()
	must(t, err)
	slices.SortFunc(all, func(a, b FormerSetting) int { return strings.Compare(a.Path, b.Path) })
	if !slices.Equal(all, want) {
		t.Errorf("remembered are %v, want %v", all, want)
	}
	must(t, f.Forget(proxy))
	must(t, f.Forget(proxy))
	if all, err := f.All(); err != nil || !slices.Equal(all, []FormerSetting{forward}) {
		t.Errorf("after one is forgotten: %v %v", all, err)
	}
	must(t, f.Unpin())
	must(t, f.Close())
	f = open()
	if all, err := f.All(); err != nil || len(all) > 0 {
		t.Errorf("after all are forgotten: %v %v", all, err)
	}
	must(t, f.Unpin())
	must(t, f.Close())
}
