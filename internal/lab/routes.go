package lab

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FollowRoutes notes each change of the host's routes of a protocol until the test ends. The function returned gives those
// so far, one a line.
func (h *Host) FollowRoutes(protocol netlink.RouteProtocol) (soFar func() []string) {
	h.t.Helper()
	verbs := map[uint16]string{unix.RTM_NEWROUTE: "add", unix.RTM_DELROUTE: "delete"}
	var failed atomic.Pointer[error] // changes may have been missed: "none" proves nothing then
	updates, done := make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	ns := h.ns
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		Namespace: &ns, ErrorCallback: func(err error) { failed.Store(&err) },
	})
	h.check(err, "follow the routes")
	h.t.Cleanup(func() { close(done) })
	var mu sync.Mutex
	var seen []string
	go func() { // ends with the subscription
		for u := range updates {
			if u.Protocol != protocol {
				continue
			}
			mu.Lock()
			seen = append(seen, fmt.Sprintf("%s %s %v via %v", time.Now().Format("05.000"), verbs[u.Type], u.Dst, u.Gw))
			mu.Unlock()
		}
	}()
	return func() []string {
		h.t.Helper()
		if err := failed.Load(); err != nil {
			h.t.Fatalf("the changes of routes are not known: %v", *err)
		}
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}
