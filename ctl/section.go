package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// section is a titled table of dump and status.
type section struct {
	title    string
	headings []string
	rows     [][]string
}

func (t *section) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the title with the number of rows, and the table under it if there are any. A column without any value is
// left out, except the first.
func (t section) print(w io.Writer) {
	if len(t.rows) == 0 {
		fmt.Fprintf(w, "%s: none\n", t.title)
		return
	}
	fmt.Fprintf(w, "%s (%d)\n", t.title, t.count())
	out := new(strings.Builder)
	table := tabwriter.NewWriter(out, 0, 1, 3, ' ', 0)
	t.writeRow(table, t.headings)
	for _, row := range t.rows {
		t.writeRow(table, row)
	}
	table.Flush()
	for line := range strings.Lines(out.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// count is the number of things: a row that continues the one above has no first cell.
func (t section) count() int {
	n := 0
	for _, row := range t.rows {
		if row[0] != "" {
			n++
		}
	}
	return n
}

func (t section) writeRow(w io.Writer, cells []string) {
	for i, c := range cells {
		if i == 0 || t.used(i) {
			fmt.Fprintf(w, "%s\t", c)
		}
	}
	fmt.Fprintln(w)
}

func (t section) used(column int) bool {
	return slices.ContainsFunc(t.rows, func(row []string) bool { return row[column] != "" })
}
