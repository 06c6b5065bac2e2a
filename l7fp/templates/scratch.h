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

/* Parses the head at the start of the message: 0 or a reason. Most heads lie in the first piece of the message
 * and need no copy; one that does not is made linear and read again. */
static __always_inline u32 l7_head_of(struct sk_msg_md *m, struct l7_view *v, struct l7_scratch *x, int response, u32 is_head)
{
	u32 size = m->size, limit = size < L7_MAX_HEAD ? size : L7_MAX_HEAD, reason = L7_REASON_INCOMPLETE_HEAD;

	for (int i = 0; i < 2; i++) {
		u64 readable = m->data_end - m->data;

		if (readable < limit) {
			if (i && bpf_msg_pull_data(m, 0, limit, 0))
				return L7_REASON_NO_MEMORY;
		} else if (i) {
			break;
		}
		readable = m->data_end - m->data;
		if (readable > limit)
			readable = limit;
		reason = response ? l7_parse_response(v, readable, &x->head, is_head) : l7_parse_request(v, readable, &x->head);
		if (reason != L7_REASON_INCOMPLETE_HEAD)
			return reason;
	}
	return size > limit ? L7_REASON_HEAD_TOO_LARGE : reason;
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
