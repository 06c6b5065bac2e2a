/* SPDX-License-Identifier: GPL-2.0 */
/* A policy object that the verifier refuses: it reads through a map value that may be NULL. */
#include "abi.h"
#include "helpers.h"
#include "base_maps.h"

char LICENSE[] SEC("license") = "GPL";

SEC("sk_msg")
int msg(struct sk_msg_md *m)
{
	u32 index = m->size;
	u64 *n = bpf_map_lookup_elem(&stats, &index);

	return *n ? SK_PASS : SK_PASS + 1;
}
