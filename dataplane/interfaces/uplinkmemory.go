package interfaces

import "maps"

// UplinkMemory knows the uplinks: the interfaces by which the host reaches others. An uplink stays one while it carries nothing:
// a default route that is missing for a moment, or a late DHCP lease, must not turn it into a workload's interface. Only Release
// removes one.
//
// It knows interfaces by name, because an interface gets another index when its driver is loaded again or a bond is made again.
// The zero value is ready to use.
type UplinkMemory struct {
	carried map[string]string // what each interface carries or carried, for example "the host's default route"
	now     map[string]bool   // those that carry something now
	names   map[int]string    // of those that exist, by index
}

// Observe notes the traffic of the host that interfaces carry now, by index, and says whether it has changed.
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

// Recall adds the uplinks of a former process, by name.
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

// Carried returns the traffic that each uplink carries or carried, by name.
func (u *UplinkMemory) Carried() map[string]string { return maps.Clone(u.carried) }

// Reasons says why no workload can have an interface, by name.
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
