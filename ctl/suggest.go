package main

import (
	"strings"

	"github.com/margay-project/margay/api"
)

// didYouMean is a line that names the candidate that was most likely meant: one that is misspelt, or the only one that
// begins with the word. It is empty when there is none.
func didYouMean(word string, candidates []string) string {
	near := api.Nearest(word, candidates)
	if near == "" {
		near = onlyWithPrefix(word, candidates)
	}
	if near == "" {
		return ""
	}
	return "did you mean " + near + "?"
}

func onlyWithPrefix(word string, candidates []string) string {
	found := ""
	for _, c := range candidates {
		if strings.HasPrefix(strings.ToLower(c), strings.ToLower(word)) {
			if found != "" {
				return ""
			}
			found = c
		}
	}
	return found
}
