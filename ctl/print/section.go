package print

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Section is a titled table of dump and status.
type Section struct {
	Title    string
	Headings []string
	rows     [][]string
}

// Add adds a row, with a cell for each heading.
func (t *Section) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Empty says whether there is no row.
func (t Section) Empty() bool { return len(t.rows) == 0 }

// Print writes the title with the number of rows, and the table under it if there are rows. A column without any value is
// left out, except the first.
func (t Section) Print(w io.Writer) {
	if len(t.rows) == 0 {
		fmt.Fprintf(w, "%s: none\n", t.Title)
		return
	}
	fmt.Fprintf(w, "%s (%d)\n", t.Title, t.count())
	out := new(strings.Builder)
	table := tabwriter.NewWriter(out, 0, 1, 3, ' ', 0)
	t.writeRow(table, t.Headings)
	for _, row := range t.rows {
		t.writeRow(table, row)
	}
	table.Flush()
	for line := range strings.Lines(out.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// count is the number of entries. A row that continues the entry above has no first cell and does not count.
func (t Section) count() int {
	n := 0
	for _, row := range t.rows {
		if row[0] != "" {
			n++
		}
	}
	return n
}

func (t Section) writeRow(w io.Writer, cells []string) {
	for i, c := range cells {
		if i == 0 || t.used(i) {
			fmt.Fprintf(w, "%s\t", c)
		}
	}
	fmt.Fprintln(w)
}

func (t Section) used(column int) bool {
	return slices.ContainsFunc(t.rows, func(row []string) bool { return row[column] != "" })
}
