// Command fieldtext collects the doc comments of a package's types and their fields, for programs that print them: Go keeps
// no comments in a binary. It writes lines of TYPE or TYPE.FIELD, a tab and the text, sorted.
//
// A paragraph of a type's comment that begins with "Fields without a comment:" is not about the type: the rest of it is
// the text of those fields.
package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fieldtext DIRECTORY FILE")
		os.Exit(2)
	}
	text, err := collect(os.Args[1])
	if err == nil {
		err = os.WriteFile(os.Args[2], []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// collect returns the lines of the package in a directory.
func collect(directory string) (string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, entry := range entries {
		if !isSource(entry) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), directory+"/"+entry.Name(), nil, parser.ParseComments)
		if err != nil {
			return "", err
		}
		for _, declaration := range file.Decls {
			lines = append(lines, linesOf(declaration)...)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n", nil
}

func isSource(entry fs.DirEntry) bool {
	return strings.HasSuffix(entry.Name(), ".go") && !strings.HasSuffix(entry.Name(), "_test.go")
}

// linesOf returns the lines of one declaration: of its exported types, and of the fields of structs.
func linesOf(declaration ast.Decl) []string {
	group, ok := declaration.(*ast.GenDecl)
	if !ok || group.Tok != token.TYPE {
		return nil
	}
	var lines []string
	add := func(name, text string) {
		if words := strings.Fields(text); len(words) > 0 {
			lines = append(lines, name+"\t"+strings.Join(words, " "))
		}
	}
	for _, s := range group.Specs {
		spec := s.(*ast.TypeSpec)
		if !spec.Name.IsExported() {
			continue
		}
		comment := spec.Doc
		if len(group.Specs) == 1 {
			comment = group.Doc
		}
		about, ofOthers, _ := strings.Cut(comment.Text(), "Fields without a comment:")
		add(spec.Name.Name, about)
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, field := range structure.Fields.List {
			for _, name := range field.Names {
				add(spec.Name.Name+"."+name.Name, cmp.Or(field.Doc.Text()+field.Comment.Text(), ofOthers))
			}
		}
	}
	return lines
}
