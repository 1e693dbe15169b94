// Package selector is the language in which policies, pools and peers select objects by their labels, for example
// role == "db" && has(zone). Parse turns text into a Selector, which matches labels, prints its canonical text, and names
// the conditions that an index can use. The caller knows the labels of each object. Start at selector.go.
package selector
