// Package bpf holds the program that judges packets and its typed maps: load, pin, attach, test-run.
//
// The C sources lie beside the Go files; layout.h is where the shared layouts are written, and `make generate`
// makes the Go types of them. The package knows nothing of policies or endpoints: it stores what
// dataplane/classifier computes.
package bpf

//go:generate go tool bpf2go -tags linux -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu" -type slot -type vector -type chunk_word -type chunk -type wild -type address_class -type net_key -type point_page -type iface -type source_key -type dimension -type action -type service_base -type stage -type iface_flag program margay.c
