package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guideCommands are the lines of the code blocks of a page, as a script spells them: the output is a copy, and a variable of
// the shell is one of the script.
func guideCommands(page string) (commands []string) {
	inCode := regexp.MustCompile(`(?m)^(?: {4}| {8})(margayctl|export) (.*)$`)
	for _, m := range inCode.FindAllStringSubmatch(page, -1) {
		command, rest := m[1], m[2]
		rest, output, kept := strings.Cut(rest, " > ")
		if command == "export" {
			command = "env"
		}
		commands = append(commands, command+" "+rest)
		if kept {
			commands = append(commands, "cp stdout "+output)
		}
	}
	return commands
}

func TestTheMigrationGuideIsWhatAScriptRuns(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/migration.txt")
	if err != nil {
		t.Fatal(err)
	}
	main, _, _ := strings.Cut(string(script), "\n# What the guide says in its text.\n")
	var run []string
	for line := range strings.Lines(main) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "$WORK/", "")
		if isOfGuide := regexp.MustCompile(`^(margayctl|env|cp stdout) `).MatchString(line); isOfGuide {
			run = append(run, line)
		}
	}
	commands := guideCommands(string(page))
	if diff := cmp.Diff(commands, run); diff != "" {
		t.Errorf("-docs/migration.md +testdata/migration.txt\n%s", diff)
	}
	// No other command stands in a code block, where nothing would run it.
	blocks := regexp.MustCompile(`(?m)^(?: {4}| {8})(\S+)`)
	for _, m := range blocks.FindAllStringSubmatch(string(page), -1) {
		if !slices.Contains([]string{"margayctl", "export"}, m[1]) {
			t.Errorf("a code block has the command %s, which no script runs", m[1])
		}
	}
}
