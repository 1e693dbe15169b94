/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The kernel's headers and libbpf's helpers, in the order they need. */
#pragma once

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <stdbool.h>

/* Return values of a tcx program; the kernel's header that names them is younger than the kernels we support to build on. */
enum {
	TCX_NEXT = -1,
	TCX_PASS = 0,
	TCX_DROP = 2,
};

typedef __u64 __attribute__((may_alias)) u64_alias;
typedef __u32 __attribute__((may_alias)) u32_alias;

/* Keeps the compiler from deriving a value from what it knew before, so that the verifier sees the check that follows. */
#define HIDE(value) asm volatile("" : "+r"(value))

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))
