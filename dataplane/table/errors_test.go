package table_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/dataplane/table"
)

// full is a target that refuses every new entry.
type full struct{}

func (full) Put(int, int) error         { return errors.New("no room") }
func (full) Delete(int) error           { return nil }
func (full) List() (map[int]int, error) { return nil, nil }

func TestAPassReportsTheFirstErrorsAndCountsTheOthers(t *testing.T) {
	entries := table.New("numbers", full{}, func(a, b int) bool { return a == b })
	for i := range 1000 {
		entries.Want(i, i)
	}
	err := entries.Fill(time.Now())
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 6 || lines[5] != "numbers: 995 more entries failed" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}
