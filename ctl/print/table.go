package print

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The space of a column in characters, as in calicoctl.
const (
	columnGap     = 3
	narrowestCell = 5
)

// table prints rows in columns that are as wide as all rows so far need. Rows that are printed together are aligned as
// text/tabwriter aligns them. A later, wider row moves the columns only from there on, because earlier rows are printed.
type table struct {
	out    *bufio.Writer
	widths []int // with the gap
}

func newTable(w io.Writer) *table { return &table{out: bufio.NewWriterSize(w, 1<<15)} }

func (t *table) print(rows [][]string) error {
	for _, row := range rows {
		for i, text := range row {
			if i == len(t.widths) {
				t.widths = append(t.widths, narrowestCell)
			}
			row[i] = visible(text)
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i])+columnGap)
		}
	}
	for _, row := range rows {
		for i, text := range row {
			t.out.WriteString(text)
			t.out.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(text)))
		}
		t.out.WriteByte('\n')
	}
	return t.out.Flush() // returns the errors of earlier writes too
}

// visible writes control characters as escapes: a value must neither break its row nor command the terminal.
func visible(text string) string {
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			quoted := strconv.QuoteRune(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}
