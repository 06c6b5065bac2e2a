/* SPDX-License-Identifier: GPL-2.0 */
/* The heavy steps of the sk_msg program as global functions: the verifier checks each of them once, for any
 * caller, instead of once for every path that leads to it. What they need beyond five arguments is in the scratch.
 */
#ifndef L7_STEPS_H
#define L7_STEPS_H

#include "scratch.h"

#define L7_POP_TRIES 4
#define L7_PICK_TRIES 8

/* Parses the head at the start of the message: 0 or a reason. Most heads lie in the first piece of the message
 * and need no copy; one that does not is made linear and read again. */
__noinline u32 l7_step_head(struct sk_msg_md *m, struct l7_scratch *x, u32 response, u32 is_head, u32 pull)
{
	u32 size = m->size, limit = size < L7_MAX_HEAD ? size : L7_MAX_HEAD, reason;
	struct l7_view v = { .ctx = m };
	u64 readable;

	if (!x)
		return L7_REASON_NO_MEMORY;
	if (pull && bpf_msg_pull_data(m, 0, limit, 0))
		return L7_REASON_NO_MEMORY;
	readable = m->data_end - m->data;
	if (readable > limit)
		readable = limit;
	reason = response ? l7_parse_response(&v, readable, &x->head, is_head) : l7_parse_request(&v, readable, &x->head);
	if (reason == L7_REASON_INCOMPLETE_HEAD && !pull && readable < limit)
		return L7_STEP_PULL;
	return reason == L7_REASON_INCOMPLETE_HEAD && size > limit ? L7_REASON_HEAD_TOO_LARGE : reason;
}

static __always_inline u32 l7_head_of(struct sk_msg_md *m, struct l7_scratch *x, u32 response, u32 is_head)
{
	u32 reason = l7_step_head(m, x, response, is_head, 0);

	return reason == L7_STEP_PULL ? l7_step_head(m, x, response, is_head, 1) : reason;
}

/* x->flow -> x->result */
__noinline int l7_step_decide(struct sk_msg_md *m, struct l7_scratch *x, u32 random)
{
	struct l7_view v = { .ctx = m };

	if (x)
		l7_decide(&v, &x->head, &x->flow, random, &x->result);
	return 0;
}

__noinline int l7_step_edit_request(struct sk_msg_md *m, struct l7_scratch *x, u32 edit)
{
	struct l7_view v = { .ctx = m };

	return x ? l7_edit_request(&v, &x->head, edit) : -1;
}

__noinline int l7_step_edit_response(struct sk_msg_md *m, struct l7_scratch *x, u32 edit)
{
	struct l7_view v = { .ctx = m };

	return x ? l7_edit_response(&v, &x->head, edit) : -1;
}

__noinline int l7_step_reply(struct sk_msg_md *m, struct l7_scratch *x, u32 reply)
{
	struct l7_view v = { .ctx = m };

	return x ? l7_make_reply(&v, &x->head, reply) : -1;
}

/* x->chunks over bytes [off, size) of the message: L7_CHUNKED_* */
__noinline u32 l7_step_chunked(struct sk_msg_md *m, struct l7_scratch *x, u32 off, u32 size)
{
	struct l7_view v = { .ctx = m };

	return x ? l7_chunked(&v, off, size, &x->chunks) : L7_CHUNKED_ERROR;
}

/* The endpoint for a request: an endpoint id, or NONE where none may be used. */
__noinline u32 l7_step_pick(u32 cluster, u32 random)
{
	struct l7_cluster *cl = l7_cluster(cluster);
	u32 count, first, at;

	if (!cl || !cl->count)
		return L7_NONE;
	count = cl->count;
	first = cl->first;
	at = cl->balance == L7_BALANCE_RANDOM ? random : (u32)__sync_fetch_and_add(&cl->next, 1);
	for (u32 i = 0; i < L7_PICK_TRIES; i++) {
		u32 *endpoint = l7_endpoint(first + (at + i) % count), id;
		struct l7_endpoint_state *es;

		if (!endpoint)
			return L7_NONE;
		id = *endpoint;
		es = bpf_map_lookup_elem(&endpoint_states, &id);
		if (es && es->usable) {
			es->requests += 1;
			return id;
		}
		if (i + 1 >= count)
			break;
	}
	return L7_NONE;
}

/* Takes an idle slot for x->transaction and points the message at its server. Returns the slot id or 0. */
__noinline u32 l7_step_take(struct sk_msg_md *m, struct l7_scratch *x, u32 endpoint)
{
	void *pool = bpf_map_lookup_elem(&pools, &endpoint);
	struct l7_endpoint_state *es;

	if (!pool || !x)
		return 0;
	for (int i = 0; i < L7_POP_TRIES; i++) {
		u32 id = 0;
		u64 key, state;
		struct l7_slot *s;

		if (bpf_map_pop_elem(pool, &id))
			break;
		s = l7_slot(id);
		if (!s)
			continue;
		/* the pop made it ours: describe the transaction before the state word publishes it */
		s->started_ns = x->transaction.started_ns;
		s->timeout_ms = x->transaction.timeout_ms;
		s->rule = x->result.rule;
		s->dest = x->result.dest;
		s->version = x->transaction.version;
		s->is_head = x->head.flags & L7_HEAD_IS_HEAD ? 1 : 0;
		s->conn = x->transaction.conn;
		s->resp_mode = L7_RESP_MODE_HEAD;
		s->resp_left = 0;
		s->resp_bytes = 0;
		s->passed = 0;
		s->status = 0;
		s->relay_done = 0;
		s->deadline_told = 0;
		state = L7_SLOT_FLAG_BUSY | x->transaction.conn;
		if (x->transaction.complete)
			state |= L7_SLOT_FLAG_REQUEST_DONE;
		if (__sync_val_compare_and_swap(&s->state, 0, state) != 0)
			continue;
		key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_SERVER, id);
		if (bpf_msg_redirect_hash(m, &sockhash, &key, BPF_F_INGRESS) == SK_PASS) {
			s->requests += 1;
			return id;
		}
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
	}
	es = bpf_map_lookup_elem(&endpoint_states, &endpoint);
	if (es)
		es->empty += 1;
	return 0;
}

#endif
