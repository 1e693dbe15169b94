package classifier

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// line is a dimension whose points are an array: services, or source ports. It is cut into segments. All points of one
// segment are in the same atoms.
type line struct {
	classes
	what     string   // for errors
	memory   []uint32 // by point: the vector of its class
	points   uint32
	segments []segment        // ascending; the first one begins at 0
	views    map[string]*view // by pointsKey
	join     []*view          // not in the segments yet
	leave    []*view          // still in the segments; no condition asks about them any more
}

// segment is a run of points of one class, up to the next segment. It has a reference to the class.
type segment struct {
	first uint32 // it ends where the next one starts
	class *class
}

func newLine(what string, vs *vectors, memory []uint32, points uint32) *line {
	l := &line{classes: newClasses(vs, 1), what: what, memory: memory, points: points, views: map[string]*view{}}
	l.segments = []segment{{0, l.empty}}
	return l
}

// viewOf returns the view of some points. Equal intervals have the same view.
func (l *line) viewOf(s intervals) *view {
	key := l.pointsKey(s)
	if v, found := l.views[string(key)]; found {
		return v
	}
	v := l.newView()
	v.line = s
	l.views[string(key)] = v
	l.join = append(l.join, v)
	return v
}

// pointsKey returns a key that is valid until the next call of it, classKey or conditionKey.
func (l *line) pointsKey(s intervals) []byte {
	l.scratch = l.scratch[:0]
	for _, i := range s {
		l.scratch = binary.LittleEndian.AppendUint32(l.scratch, i.first)
		l.scratch = binary.LittleEndian.AppendUint32(l.scratch, i.last)
	}
	return l.scratch
}

// retire removes a view that no condition asks about any more; update takes it out of the segments.
func (l *line) retire(v *view) {
	delete(l.views, string(l.pointsKey(v.line)))
	if i := slices.Index(l.join, v); i >= 0 {
		l.join = slices.Delete(l.join, i, i+1)
		return
	}
	l.leave = append(l.leave, v)
}

// edge is a point where an atom begins or ends.
type edge struct {
	at    uint32
	atom  *atom
	join  bool // the atom joins the line; else it leaves
	start bool // it begins here; else it ends before this point
}

// edges returns the edges of all views that join or leave, in ascending order.
func (l *line) edges() []edge {
	var edges []edge
	add := func(views []*view, join bool) {
		for _, v := range views {
			for _, i := range v.line {
				edges = append(edges, edge{i.first, v.atoms[0], join, true}, edge{i.last + 1, v.atoms[0], join, false})
			}
		}
	}
	add(l.join, true)
	add(l.leave, false)
	slices.SortFunc(edges, func(x, y edge) int { return cmp.Compare(x.at, y.at) })
	return edges
}

// update cuts the segments anew, fills the new classes and moves points to them. If there is no room for all views,
// those without room stay in join.
func (l *line) update(round uint64) error {
	if len(l.join)+len(l.leave) == 0 {
		return nil
	}
	todo := l.join
	l.join = nil
	failed, err := l.updateWith(todo, round)
	l.join = failed
	if err != nil {
		return fmt.Errorf("%s, %d conditions of rules: %w", l.what, len(failed), err)
	}
	return nil
}

// updateWith brings views into the segments: all at once, or in halves if there is no room. It returns those that
// failed.
func (l *line) updateWith(views []*view, round uint64) (failed []*view, err error) {
	l.join = views
	segments, err := l.cut()
	if err == nil {
		l.move(segments, round)
		l.leave = nil
		return nil, nil
	}
	for _, s := range segments {
		l.abandon(s.class, round)
	}
	if len(views) <= 1 {
		return views, err
	}
	half := len(views) / 2
	failed, err = l.updateWith(views[:half], round)
	more, e := l.updateWith(views[half:], round)
	return append(slices.Clip(failed), more...), cmp.Or(err, e)
}

// cut returns the new segments, each with a reference to its class. With an error it returns those that it made.
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

// cutting is the state of a walk along the line.
type cutting struct {
	*line
	edges            []edge  // ahead
	joining, leaving []*atom // at this point, by id
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

// add begins a segment at a point, or goes on with the last one if the class is the same. old is the class that the
// point has now.
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

// apply adds the atom to a list, or removes it where the atom ends.
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

// move writes the points whose class changes, and makes the new segments those of the line.
func (l *line) move(segments []segment, round uint64) {
	old := 0
	for i, s := range segments {
		s.class.published = true
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
				l.vectors.mem.store()
			}
			if at = stop; old+1 < len(l.segments) && l.segments[old+1].first == at {
				old++
			}
		}
	}
	for _, s := range l.segments {
		l.release(s.class, round)
	}
	l.segments = segments
}

// fill stores point by point. An aligned store of 32 bits is atomic on every machine that we support, and the atomic
// stores that filled the class come before it.
func fill(points []uint32, v uint32) {
	for i := range points {
		points[i] = v
	}
}
