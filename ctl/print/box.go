package print

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

var plainNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?(e\+[0-9]+)?$`)

// Box prints a table in a frame, as calicoctl does: headings centred, numbers to the right, everything else to the left.
func Box(w io.Writer, headings []string, rows [][]string) {
	widths := make([]int, len(headings))
	for _, row := range append([][]string{headings}, rows...) {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	frame := "+"
	for _, width := range widths {
		frame += strings.Repeat("-", width+2) + "+"
	}
	line := func(row []string, align func(text string, gap int) string) {
		fmt.Fprint(w, "|")
		for i, text := range row {
			fmt.Fprintf(w, " %s |", align(text, widths[i]-utf8.RuneCountInString(text)))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, frame)
	line(headings, func(text string, gap int) string {
		return strings.Repeat(" ", gap/2) + text + strings.Repeat(" ", gap-gap/2)
	})
	fmt.Fprintln(w, frame)
	for _, row := range rows {
		line(row, func(text string, gap int) string {
			if plainNumber.MatchString(text) {
				return strings.Repeat(" ", gap) + text
			}
			return text + strings.Repeat(" ", gap)
		})
	}
	fmt.Fprintln(w, frame)
}
