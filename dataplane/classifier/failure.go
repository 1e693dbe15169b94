package classifier

// failures are the conditions and atoms that the last Apply could not bring into all classes. Rules that need them are
// not in force.
type failures struct {
	conds map[*condition]struct{}
	atoms map[*atom]struct{}
}

// addConditions adds conditions whose new slots could not be written.
func (f *failures) addConditions(conds []*condition) {
	for _, c := range conds {
		if f.conds == nil {
			f.conds = map[*condition]struct{}{}
		}
		f.conds[c] = struct{}{}
	}
}

// addAtoms adds atoms whose members or points could not be moved.
func (f *failures) addAtoms(atoms []*atom) {
	for _, a := range atoms {
		if f.atoms == nil {
			f.atoms = map[*atom]struct{}{}
		}
		f.atoms[a] = struct{}{}
	}
}

// affects says whether a list needs something that is not in the tables.
func (f *failures) affects(l *list) bool {
	if !l.complete {
		return true
	}
	if len(f.conds)+len(f.atoms) == 0 {
		return false
	}
	for _, it := range l.items {
		for _, c := range it.conds {
			if c == nil {
				continue
			}
			if _, failed := f.conds[c]; failed || f.anyOf(c.in) || f.anyOf(c.out) {
				return true
			}
		}
	}
	return false
}

// anyOf says whether one of some views has an atom that failed.
func (f *failures) anyOf(views []*view) bool {
	for _, v := range views {
		for _, a := range v.atoms {
			if _, failed := f.atoms[a]; failed {
				return true
			}
		}
	}
	return false
}
