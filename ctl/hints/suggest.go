package hints

import (
	"strings"

	"github.com/margay-project/margay/api"
)

// DidYouMean returns a line that suggests the candidate that was most likely meant: the only one that begins with the word,
// else the one with the nearest spelling. It is empty if there is none.
func DidYouMean(word string, candidates []string) string {
	near := onlyWithPrefix(word, candidates)
	if near == "" {
		near = api.Nearest(word, candidates)
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
