package classifier

// failures are what the last Apply could not bring into the tables.
type failures struct {
	conds map[*condition]struct{}
	atoms map[*atom]struct{}
}

func (f *failures) addConditions(conds []*condition) {
	for _, c := range conds {
		if f.conds == nil {
			f.conds = map[*condition]struct{}{}
		}
		f.conds[c] = struct{}{}
	}
}

func (f *failures) addAtoms(atoms []*atom) {
	for _, a := range atoms {
		if f.atoms == nil {
			f.atoms = map[*atom]struct{}{}
		}
		f.atoms[a] = struct{}{}
	}
}

// affects says whether a list depends on something that is not in the tables.
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
