package interfaces

import "maps"

// UplinkMemory knows which interfaces are the host's own way to others. An interface that was an uplink once stays one
// while it carries nothing: a default route that is gone for a moment, or a DHCP lease that comes late, must not turn it
// into a workload's interface. Only Release takes an interface off the list.
//
// Interfaces go by their names: a driver that is loaded again, and a bond that is made again, have another index. The zero
// value is ready to use.
type UplinkMemory struct {
	carried map[string]string // what each interface carries or carried, for example "the host's default route"
	now     map[string]bool   // those that carry something now
	names   map[int]string    // of those that exist, by index
}

// Observe takes in what interfaces carry now, by index, and says whether anything changed.
func (u *UplinkMemory) Observe(links Links, carries map[int]string) (changed bool) {
	carried, now, names := map[string]string{}, map[string]bool{}, map[int]string{}
	maps.Copy(carried, u.carried)
	for index, link := range links {
		if what := carries[index]; what != "" {
			carried[link.Name], now[link.Name] = what, true
		} else if old := u.names[index]; old != "" && carried[link.Name] == "" {
			carried[link.Name] = carried[old] // it was renamed
		}
		if carried[link.Name] != "" {
			names[index] = link.Name
		}
	}
	changed = !maps.Equal(carried, u.carried) || !maps.Equal(now, u.now)
	u.carried, u.now, u.names = carried, now, names
	return changed
}

// Recall takes in what interfaces carried before this process, by name.
func (u *UplinkMemory) Recall(carried map[string]string) {
	all := map[string]string{}
	maps.Copy(all, carried)
	maps.Copy(all, u.carried)
	u.carried = all
}

// Release forgets an interface that carries nothing now.
func (u *UplinkMemory) Release(name string) {
	if u.now[name] {
		return
	}
	delete(u.carried, name)
	maps.DeleteFunc(u.names, func(_ int, is string) bool { return is == name })
}

// Carried is what each uplink carries or carried, by name.
func (u *UplinkMemory) Carried() map[string]string { return maps.Clone(u.carried) }

// Reasons say why no workload can have an interface, by name.
func (u *UplinkMemory) Reasons() map[string]string {
	reasons := map[string]string{}
	for name, what := range u.carried {
		if u.now[name] {
			reasons[name] = "carries " + what
		} else {
			reasons[name] = "carried " + what + " before, and is a workload's only once its endpoint is deleted and created again"
		}
	}
	return reasons
}
