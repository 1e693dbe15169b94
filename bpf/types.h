/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The kernel's headers and libbpf's helpers, in the order they need. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
