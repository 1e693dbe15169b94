// Package hints says what to try next after an error.
//
// With adds lines to an error, Of reads them back. Each line is printed after the error's own line, which scripts may match.
// DidYouMean makes such a line for a word that is misspelt.
package hints
