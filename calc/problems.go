package calc

import "github.com/margay-project/margay/api"

// problemBook keeps problems by their source, so that each reading replaces only the problems that it found itself. A problem that
// several sources found is handed out once.
type problemBook struct {
	sources map[problemSource][]Problem
	count   map[Problem]int           // how many sources found it; no zeros
	table   *table[Problem, struct{}] // as they are handed out
}

// problemSource is a reading of one object, or of all objects of some kinds if the key is zero.
type problemSource struct {
	object  api.Key
	reading string
}

func newProblemBook() problemBook {
	return problemBook{
		sources: map[problemSource][]Problem{},
		count:   map[Problem]int{},
		table:   newTable[Problem](same[struct{}]),
	}
}

// set replaces the problems that one reading of an object found. Empty texts are left out.
func (b *problemBook) set(about api.Key, reading string, texts ...string) {
	var problems []Problem
	for _, text := range texts {
		if text != "" {
			problems = append(problems, Problem{Object: about, Text: text})
		}
	}
	b.replace(problemSource{about, reading}, problems)
}

// setAll replaces the problems that a reading of many objects found.
func (b *problemBook) setAll(reading string, problems []Problem) {
	b.replace(problemSource{reading: reading}, problems)
}

// only adds or removes the problem of an object that does not exist but is referred to.
func (b *problemBook) only(p Problem, there bool) {
	var problems []Problem
	if there {
		problems = []Problem{p}
	}
	b.replace(problemSource{p.Object, "missing"}, problems)
}

// replace replaces the problems of one source. A problem stays as long as any source has it.
func (b *problemBook) replace(from problemSource, problems []Problem) {
	for _, p := range problems {
		if b.count[p]++; b.count[p] == 1 {
			b.table.set(p, struct{}{})
		}
	}
	for _, p := range b.sources[from] {
		if b.count[p]--; b.count[p] == 0 {
			delete(b.count, p)
			b.table.remove(p)
		}
	}
	if len(problems) == 0 {
		delete(b.sources, from)
	} else {
		b.sources[from] = problems
	}
}

func (b *problemBook) flush() (added, gone []Problem) {
	changed, gone := b.table.flush()
	for p := range changed {
		added = append(added, p)
	}
	return added, gone
}
