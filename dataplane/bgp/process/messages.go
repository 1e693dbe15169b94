package process

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
)

// Names of the child's methods, see child.
const (
	callBegin     = "Speaker.Begin"
	callApply     = "Speaker.Apply"
	callFollow    = "Speaker.Follow"
	callStatus    = "Speaker.Status"
	callAnnounced = "Speaker.Announced"
	callReceived  = "Speaker.Received"
	callRunning   = "Speaker.Running"
	callInUse     = "Speaker.InUse"
	callPasswords = "Speaker.RefreshPasswords"
)

// none is the argument of a call that needs none: gob takes no empty struct. The types of other arguments are exported for net/rpc.
type none = bool

// Change is the argument of Apply: the difference to the former one.
type Change struct {
	Settings  calc.BGP // without Paths
	Paths     map[netip.Prefix]calc.Path
	PathsGone []netip.Prefix
	Withheld  map[string]bgp.Withheld
	Level     logrus.Level
	Limited   []string // in the first one of a child: see bgp.Speaker.KeepLimited
}

// News has the routes that have changed since the last answer of Follow, and all sessions that are up.
type News struct {
	Learned  map[netip.Prefix][]netip.Addr
	Complete bool
	Up       map[string]time.Time // see bgp.Speaker.Sessions
	Limited  []string             // see bgp.Speaker.Limited
	Applied  bool                 // the child knows which peers are wanted; before that, Limited says nothing
}

// Kernel is the argument of InUse.
type Kernel struct {
	Missing []netip.Prefix
	Reached []netip.Addr
}

// difference returns the paths of now that are new or different, and those of before that are gone.
func difference(before, now map[netip.Prefix]calc.Path) (changed map[netip.Prefix]calc.Path, gone []netip.Prefix) {
	changed = map[netip.Prefix]calc.Path{}
	for prefix, path := range now {
		if was, there := before[prefix]; !there || !equalPath(was, path) {
			changed[prefix] = path
		}
	}
	for prefix := range before {
		if _, there := now[prefix]; !there {
			gone = append(gone, prefix)
		}
	}
	return changed, gone
}

func equalPath(a, b calc.Path) bool {
	return a.Reason == b.Reason && a.Interface == b.Interface && slices.Equal(a.Communities, b.Communities)
}
