// Package selector is the language in which policies, pools and peers say which labelled things they mean, such as
// role == "db" && has(zone). Parse turns text into a Selector that matches labels, prints its canonical text, and names
// the conditions that an index can use. The caller knows the labels of each object. Start at selector.go.
package selector
