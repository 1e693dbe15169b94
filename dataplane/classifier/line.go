package classifier

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// line is a dimension whose points stand in an array: services, or source ports. It is cut into segments of points
// that are in the same atoms.
type line struct {
	classes
	what     string
	memory   []uint32
	points   uint32
	segments []segment
	atoms    map[string]*atom // by their intervals
	join     []*atom          // to be brought into the segments
	leave    []*atom
}

type segment struct {
	first uint32 // it ends where the next one starts
	class *class
}

func newLine(what string, vs *vectors, memory []uint32, points uint32) *line {
	l := &line{classes: newClasses(vs, 1), what: what, memory: memory, points: points, atoms: map[string]*atom{}}
	l.segments = []segment{{0, l.empty}}
	return l
}

// atomOf is the atom of some points; equal intervals have the same.
func (l *line) atomOf(s intervals) *atom {
	key := l.pointsKey(s)
	if a, found := l.atoms[string(key)]; found {
		return a
	}
	a := l.newAtom()
	a.line = s
	l.atoms[string(key)] = a
	l.join = append(l.join, a)
	return a
}

// pointsKey is valid until the next call.
func (l *line) pointsKey(s intervals) []byte {
	l.scratch = l.scratch[:0]
	for _, i := range s {
		l.scratch = binary.LittleEndian.AppendUint32(l.scratch, i.first)
		l.scratch = binary.LittleEndian.AppendUint32(l.scratch, i.last)
	}
	return l.scratch
}

// retire takes an atom that no condition has any more out of the segments.
func (l *line) retire(a *atom) {
	delete(l.atoms, string(l.pointsKey(a.line)))
	if i := slices.Index(l.join, a); i >= 0 {
		l.join = slices.Delete(l.join, i, i+1)
		return
	}
	l.leave = append(l.leave, a)
}

// edge is where atoms start or stop to cover the line.
type edge struct {
	at    uint32
	atom  *atom
	join  bool
	start bool
}

func (l *line) edges() []edge {
	var edges []edge
	add := func(atoms []*atom, join bool) {
		for _, a := range atoms {
			for _, i := range a.line {
				edges = append(edges, edge{i.first, a, join, true}, edge{i.last + 1, a, join, false})
			}
		}
	}
	add(l.join, true)
	add(l.leave, false)
	slices.SortFunc(edges, func(x, y edge) int { return cmp.Compare(x.at, y.at) })
	return edges
}

// settle cuts the segments anew, fills the new classes and then moves points to them. When there is no room for all
// atoms it goes on with those for which there is; the others stay in join.
func (l *line) settle(epoch uint64) error {
	if len(l.join)+len(l.leave) == 0 {
		return nil
	}
	todo := l.join
	l.join = nil
	failed, err := l.try(todo, epoch)
	l.join = failed
	if err != nil {
		return fmt.Errorf("%s, %d conditions of rules: %w", l.what, len(failed), err)
	}
	return nil
}

// try brings atoms into the segments, in halves if that is too much at once.
func (l *line) try(atoms []*atom, epoch uint64) (failed []*atom, err error) {
	l.join = atoms
	segments, err := l.cut()
	if err == nil {
		l.move(segments, epoch)
		l.leave = nil
		return nil, nil
	}
	for _, s := range segments {
		l.abandon(s.class, epoch)
	}
	if len(atoms) <= 1 {
		return atoms, err
	}
	half := len(atoms) / 2
	failed, err = l.try(atoms[:half], epoch)
	more, e := l.try(atoms[half:], epoch)
	return append(slices.Clip(failed), more...), cmp.Or(err, e)
}

// cut returns the new segments, with a reference to each class; with an error those that it got to.
func (l *line) cut() ([]segment, error) {
	c := cutting{line: l, edges: l.edges()}
	for at, old := uint32(0), 0; at < l.points; {
		c.pass(at)
		if err := c.add(at, l.segments[old].class); err != nil {
			return c.segments, err
		}
		next := l.points
		if old+1 < len(l.segments) {
			next = l.segments[old+1].first
		}
		if len(c.edges) > 0 {
			next = min(next, c.edges[0].at)
		}
		if at = next; old+1 < len(l.segments) && l.segments[old+1].first == at {
			old++
		}
	}
	return c.segments, nil
}

// cutting is a walk along the line.
type cutting struct {
	*line
	edges            []edge  // ahead
	joining, leaving []*atom // here
	segments         []segment
	buffer           []*atom
}

// pass applies the edges at a point.
func (c *cutting) pass(at uint32) {
	for len(c.edges) > 0 && c.edges[0].at == at {
		e := c.edges[0]
		if e.join {
			c.joining = e.apply(c.joining)
		} else {
			c.leaving = e.apply(c.leaving)
		}
		c.edges = c.edges[1:]
	}
}

// add starts a segment at a point whose class has been old, unless the one before simply goes on.
func (c *cutting) add(at uint32, old *class) error {
	class := old
	if len(c.joining)+len(c.leaving) == 0 {
		old.refs++
	} else {
		c.buffer = union(c.buffer[:0], old.atoms, c.joining)
		c.buffer = slices.DeleteFunc(c.buffer, func(a *atom) bool { return slices.Contains(c.leaving, a) })
		var err error
		if class, err = c.get(c.buffer); err != nil {
			return err
		}
	}
	if n := len(c.segments); n > 0 && c.segments[n-1].class == class {
		class.refs--
		return nil
	}
	c.segments = append(c.segments, segment{at, class})
	return nil
}

func (e edge) apply(atoms []*atom) []*atom {
	at, found := slices.BinarySearchFunc(atoms, e.atom, byID)
	switch {
	case e.start && !found:
		return slices.Insert(atoms, at, e.atom)
	case !e.start && found:
		return slices.Delete(atoms, at, at+1)
	}
	return atoms
}

// move writes the points whose class has changed.
func (l *line) move(segments []segment, epoch uint64) {
	old := 0
	for i, s := range segments {
		s.class.shown = true
		end := l.points
		if i+1 < len(segments) {
			end = segments[i+1].first
		}
		for at := s.first; at < end; {
			stop := end
			if old+1 < len(l.segments) {
				stop = min(stop, l.segments[old+1].first)
			}
			if l.segments[old].class != s.class {
				fill(l.memory[at:stop], s.class.vectors[0])
			}
			if at = stop; old+1 < len(l.segments) && l.segments[old+1].first == at {
				old++
			}
		}
	}
	for _, s := range l.segments {
		l.release(s.class, epoch)
	}
	l.segments = segments
}

// fill stores point by point: an aligned store of 32 bits is seen whole, and the atomic stores that filled the class
// came before.
func fill(points []uint32, v uint32) {
	for i := range points {
		points[i] = v
	}
}
