package classifier

import "slices"

// interval is a range of points, with both ends, on the line of services or of source ports.
type interval struct{ first, last uint32 }

// intervals are in ascending order; they neither overlap nor touch.
type intervals []interval

// normal sorts intervals and joins those that overlap or touch. It reuses the slice.
func normal(s intervals) intervals {
	slices.SortFunc(s, func(a, b interval) int { return int(a.first) - int(b.first) })
	out := s[:0]
	for _, i := range s {
		if n := len(out); n > 0 && i.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, i.last)
			continue
		}
		out = append(out, i)
	}
	return out
}

// not returns the rest of a line that has some number of points.
func (s intervals) not(points uint32) intervals {
	var out intervals
	next := uint32(0)
	for _, i := range s {
		if i.first > next {
			out = append(out, interval{next, i.first - 1})
		}
		next = i.last + 1
	}
	if next < points {
		out = append(out, interval{next, points - 1})
	}
	return out
}

// and returns the intersection.
func (s intervals) and(t intervals) intervals {
	var out intervals
	for len(s) > 0 && len(t) > 0 {
		first, last := max(s[0].first, t[0].first), min(s[0].last, t[0].last)
		if first <= last {
			out = append(out, interval{first, last})
		}
		if s[0].last < t[0].last {
			s = s[1:]
		} else {
			t = t[1:]
		}
	}
	return out
}
