package api

// Nearest returns the name with the most similar spelling; empty if none is similar.
func Nearest(written string, names []string) string { return nearest(written, names) }
