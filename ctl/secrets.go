package main

import (
	"regexp"
	"unicode/utf8"
)

// Secrets that may not leave the host: private keys, the login in a URL, and the value of a setting named like a secret.
var (
	privateKeys  = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`)
	logins       = regexp.MustCompile(`://[^/\s:@"']+:[^/\s@"']+@`)
	secretValues = regexp.MustCompile(`(?i)((?:password|passwd|passphrase|secret|token)[a-z0-9_.-]*\\?["']?\s*[:=]\s*)(\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;"'\\{}\[\]]+)`)
)

const removed = "(removed)"

// withoutSecrets replaces the secrets in a text by "(removed)". It returns data that is not text unchanged.
func withoutSecrets(content []byte) []byte {
	if !utf8.Valid(content) {
		return content
	}
	content = privateKeys.ReplaceAllLiteral(content, []byte(removed))
	content = logins.ReplaceAllLiteral(content, []byte("://"+removed+"@"))
	return secretValues.ReplaceAll(content, []byte(`${1}`+removed))
}
