/* SPDX-License-Identifier: GPL-2.0 */
/* What one run of the sk_msg program works on. It lives in the socket's storage: that is serialised by the
 * socket lock (a per-CPU buffer is not, programs are preemptible), and the verifier does not track what is in it.
 */
#ifndef L7_SCRATCH_H
#define L7_SCRATCH_H

#include "env.h"
#include "tables.h"
#include "parse_http1.h"
#include "match.h"
#include "edit.h"
#include "reply.h"
#include "chunked.h"

struct l7_scratch {
	struct l7_head head;
	struct l7_result result;
	struct l7_chunks chunks;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l7_scratch);
} scratch SEC(".maps");

#define L7_COUNT_FORWARDED 0
#define L7_COUNT_REPLIED 1
#define L7_COUNT_DIVERTED 2

static __always_inline void l7_count_rule(u32 rule, u32 what)
{
	struct l7_rule *r = l7_rule(rule);
	u32 i;
	u64 *n;

	if (!r)
		return;
	i = r->counter * 3 + what;
	n = bpf_map_lookup_elem(&rule_counters, &i);
	if (n)
		*n += 1;
}

#endif
