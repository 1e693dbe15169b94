// Package bpf holds the program that judges packets and its typed maps: load, pin, attach, test-run.
//
// The C sources lie beside the Go files; layout.h is where the shared layouts are written, and `make generate`
// makes the Go types of package layout from it. The package knows nothing of policies or endpoints: it stores the
// tables that dataplane/classifier computes.
//
//	Shared      state that outlives a generation, pinned: connections, epoch, settings, counters, events
//	Generation  one loaded program with its own policy tables
//	Attachment  a pinned link of a generation's programs to one interface
//
// Start at margay.c for the path of a packet, at load.go for the path of a table.
package bpf

//go:generate go tool bpf2go -tags linux -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -no-global-types program margay.c
//go:generate go run ./layout/generate layout.h program_bpfel.o layout/types.go
