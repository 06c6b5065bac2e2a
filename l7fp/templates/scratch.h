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

/* a request on its way into a slot */
struct l7_transaction {
	u64 started_ns;
	u32 conn;
	u32 timeout_ms;
	u32 version;
	u32 complete; /* no body bytes to come */
};

struct l7_scratch {
	struct l7_head head;
	struct l7_flow flow;
	struct l7_result result;
	struct l7_transaction transaction;
	struct l7_chunks chunks;
};

#define L7_STEP_PULL L7_REASON_MAX /* of l7_step_head(): pull the message and call again */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l7_scratch);
} scratch SEC(".maps");

/* the number that the loader gave this version */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} version SEC(".maps");

static __always_inline u32 l7_version(void)
{
	u32 zero = 0, *n = bpf_map_lookup_elem(&version, &zero);

	return n ? *n : 0;
}

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
