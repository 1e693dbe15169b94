package api

// Nearest is the name that somebody most likely meant who wrote another one, or nothing.
func Nearest(written string, names []string) string { return nearest(written, names) }
