/* SPDX-License-Identifier: GPL-2.0 */
/* Fields of kernel structures that we read; their offsets are taken from the running kernel's BTF (CO-RE). */
#ifndef L7_KERNEL_TYPES_H
#define L7_KERNEL_TYPES_H

#include "helpers.h"

typedef struct {
	int counter;
} atomic_t;

struct kernfs_node {
	u64 id;
} L7_KERNEL_STRUCT;

struct cgroup {
	struct kernfs_node *kn;
} L7_KERNEL_STRUCT;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} L7_KERNEL_STRUCT;

struct sock {
	struct sock_cgroup_data sk_cgrp_data;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
} L7_KERNEL_STRUCT;

struct tcp_sock {
	u32 copied_seq;
} L7_KERNEL_STRUCT;

#endif
