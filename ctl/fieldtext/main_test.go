package main

import (
	"os"
	"testing"
)

func TestTheCommittedTableIsThatOfTheTypes(t *testing.T) {
	t.Parallel()
	want, err := collect("../../api")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../fields.txt")
	if err != nil || string(got) != want {
		t.Errorf("ctl/fields.txt is not what the comments in api say: run make generate (%v)", err)
	}
}
