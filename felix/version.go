package main

// Stamped by the linker, see the Makefile.
var (
	version = "unknown"
	commit  = "unknown"
)
