// Package bpf holds the program that judges packets and its typed maps: load, pin, attach, test-run.
//
// The C sources lie beside the Go files; layout.h is where the shared layouts are written, and `make generate`
// makes the Go types of them. The package knows nothing of policies or endpoints: it stores what
// dataplane/classifier computes.
//
//	Shared      state that outlives a generation, pinned: connections, epoch, settings, counters, events
//	Generation  one loaded program with its own policy tables
//	Attachment  a pinned link of a generation's programs to one interface
//
// Start at margay.c for the path of a packet, at load.go for the path of a table.
package bpf

//go:generate go tool bpf2go -tags linux -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu" -type slot -type vector -type chunk_word -type chunk -type wild -type address_class -type net_key -type point_page -type iface -type source_key -type packet -type flow_key -type leg -type flow -type opening -type settings -type sweep_result -type drain_result -type fragment_key -type fragment -type hits -type event -type judged -type address -type dimension -type action -type service_base -type stage -type iface_flag -type packet_flag -type flow_state -type flow_flag -type leg_way -type leg_epoch -type leg_side -type flow_tables -type crowding -type log_level -type reason -type event_kind -type judgement program margay.c
