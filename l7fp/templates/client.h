/* SPDX-License-Identifier: GPL-2.0 */
/* Client side of the fast path: runs on every sendmsg() of C, under C's socket lock. The order of the steps is
 * the design: what must not overtake what, and what may still be undone.
 */
#ifndef L7_CLIENT_H
#define L7_CLIENT_H

#include "divert.h"
#include "kernel_types.h"
#include "steps.h"

/* answers that a client lets pile up unread before its requests go where TCP's window slows it down */
#define L7_UNREAD_LIMIT (2 * L7_BODY_LIMIT)

#define L7_WAIT_STEPS 512

struct l7_wait {
	struct l7_slot *slot;
	u64 state;
};

/* Body bytes go where their head went. */
static __always_inline int l7_client_body(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c)
{
	struct l7_slot *s = l7_slot(c->slot);
	u64 key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_SERVER, c->slot), state = s ? s->state : 0;
	u32 size = m->size, n;

	n = st->body_left < size ? st->body_left : size;
	st->body_left -= n;
	if (!s || (u32)state != st->id || !(state & L7_SLOT_FLAG_BUSY) || state & L7_SLOT_ENDED ||
	    bpf_msg_redirect_hash(m, &sockhash, &key, BPF_F_INGRESS) != SK_PASS) {
		/* The server is gone and the agent answers. Passed on, the rest would be read as a request. */
		l7_count(L7_REASON_BODY_SLOT_LOST);
		return n == size ? l7_swallow(m, st) : l7_reset(m, st, c);
	}
	l7_count(L7_REASON_BODY);
	if (n < size) {
		bpf_msg_apply_bytes(m, n);
		st->tail = 1;
		l7_count(L7_REASON_BODY_TRAILING);
	}
	if (!st->body_left)
		l7_slot_half(s, c->slot, L7_SLOT_FLAG_REQUEST_DONE);
	return SK_PASS;
}

static long l7_wait_step(u32 i, void *arg)
{
	struct l7_wait *w = arg;

	(void)i;
	return w->slot->state != w->state;
}

/* The server's send() has handed over the whole answer and is about to say so, see l7_fence(). A client that has
 * read the answer may be quicker by some hundred nanoseconds, which are cheaper to wait for than the slow path. */
static __always_inline u64 l7_wait(struct l7_slot *s, u64 state)
{
	struct l7_wait w = { .slot = s, .state = state };

	bpf_loop(L7_WAIT_STEPS, l7_wait_step, &w, 0);
	return s->state;
}

/* May a request start on the fast path now? 0 or the reason why not. */
static __always_inline u32 l7_gate(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c)
{
	struct tcp_sock *tcp;
	struct l7_slot *s;
	u64 state;

	if (c->passed != c->acked)
		return L7_REASON_SLOW_MODE;
	tcp = bpf_skc_to_tcp_sock(m->sk);
	if (!tcp)
		return L7_REASON_NO_MEMORY;
	/* recvmsg() drains redirected bytes before TCP's own queue: a fast answer would overtake an unread slow one */
	if (c->sent && tcp->copied_seq - st->seq0 != (u32)c->sent)
		return L7_REASON_UNREAD_ANSWER;
	if (((struct sock *)tcp)->sk_backlog.rmem_alloc.counter > L7_UNREAD_LIMIT)
		return L7_REASON_RECEIVE_BUFFER;
	if (c->flags & L7_CONN_FLAG_PIPELINES)
		return L7_REASON_PIPELINED;
	s = c->slot ? l7_slot(c->slot) : 0;
	state = s ? s->state : 0;
	if ((u32)state == st->id && state & L7_SLOT_FLAG_BUSY) {
		if (s->resp_mode == L7_RESP_MODE_FENCE) {
			state = l7_wait(s, state);
			if ((u32)state == st->id && state & L7_SLOT_FLAG_BUSY)
				return L7_REASON_PIPELINED;
		} else {
			/* the agent ends some transactions, and may do so after the client has their answer */
			if (!(state & (L7_SLOT_FLAG_ADOPTED | L7_SLOT_ENDED)))
				c->flags |= L7_CONN_FLAG_PIPELINES;
			/* dead is over, but one the agent has claimed is busy until its answer is promised */
			if (!(state & L7_SLOT_FLAG_DEAD) || state & L7_SLOT_FLAG_CLAIMED)
				return L7_REASON_PIPELINED;
		}
	}
	if (st->flags & L7_SOCK_FLAG_IDENTITY_CONFLICT)
		return L7_REASON_IDENTITY;
	if (bpf_get_current_cgroup_id() != st->cgroup_current) {
		c->flags |= L7_CONN_FLAG_IDENTITY_CONFLICT;
		return L7_REASON_IDENTITY;
	}
	return 0;
}

static __always_inline u64 l7_source_bits_of(struct l7_sock_state *st)
{
#if L7_HAS_SOURCE
	u64 *bits = bpf_map_lookup_elem(&source_bits, &st->workload);

	return bits ? *bits : 0;
#else
	return 0;
#endif
}

static __always_inline u64 l7_source_ip_bits_of(struct l7_sock_state *st)
{
#if L7_HAS_SOURCE_IP
	struct l7_source_ip_key key = { .prefix_bits = 128 };
	u64 *bits;

	__builtin_memcpy(key.addr, st->source_ip, 16);
	bits = bpf_map_lookup_elem(&source_ip, &key);
	return bits ? *bits : 0;
#else
	return 0;
#endif
}

static __always_inline int l7_reply_to(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c,
				       struct l7_scratch *x, struct l7_config *cfg, u32 version)
{
	u64 self = L7_SOCK_KEY(L7_SOCK_KEY_KIND_CLIENT, st->id);
	struct l7_event e = {};
	struct l7_reply *reply;
	int ret;

	/* the rest of the body is still to come: whoever answers must read it */
	if (st->body_left) {
		st->body_left = 0;
		return l7_divert(m, st, c, L7_REASON_BODY_TOO_LARGE);
	}
	if (bpf_msg_redirect_hash(m, &sockhash, &self, BPF_F_INGRESS) != SK_PASS)
		return l7_divert(m, st, c, L7_REASON_NO_MEMORY);
	st->redirected = 1;
	ret = l7_step_reply(m, x, x->result.reply);
	if (ret < 0)
		return l7_divert(m, st, c, L7_REASON_NO_MEMORY);
	if (ret > 0)
		return l7_reset(m, st, c);
	c->replied += 1;
	l7_count(L7_REASON_REPLIED);
	l7_count_rule(x->result.rule, L7_COUNT_REPLIED);
	if (cfg->event_mask & (1U << L7_EVENT_TYPE_REPLY)) {
		reply = l7_reply(x->result.reply);
		e.type = L7_EVENT_TYPE_REPLY;
		e.time_ns = bpf_ktime_get_ns();
		e.conn = st->id;
		e.rule = x->result.rule;
		e.version = version;
		e.status = reply ? reply->status : 0;
		l7_emit(cfg, &e);
	}
	return SK_PASS;
}

static __always_inline int l7_forward(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c,
				      struct l7_scratch *x, struct l7_config *cfg, u32 version)
{
	struct l7_dest *dest = l7_dest(x->result.dest);
	struct l7_rule *rule = l7_rule(x->result.rule);
	u32 endpoint, slot, edit;
	struct l7_slot *s;
	int ret;

	if (!dest || !rule) {
		st->body_left = 0;
		return l7_divert(m, st, c, L7_REASON_RULE_SLOW);
	}
	edit = dest->request_edit;
	x->transaction.timeout_ms = rule->timeout_ms;
	endpoint = l7_step_pick(dest->cluster, bpf_get_prandom_u32());
	if (endpoint == L7_NONE) {
		st->body_left = 0;
		return l7_divert(m, st, c, L7_REASON_NO_ENDPOINT);
	}
	x->transaction.started_ns =
		cfg->event_mask & (1U << L7_EVENT_TYPE_REQUEST) ? bpf_ktime_get_ns() : bpf_ktime_get_coarse_ns();
	x->transaction.conn = st->id;
	x->transaction.version = version;
	x->transaction.complete = !st->body_left;
	slot = l7_step_take(m, x, endpoint);
	if (!slot) {
		st->body_left = 0;
		return l7_divert(m, st, c, L7_REASON_POOL_EMPTY);
	}
	if (edit != L7_NONE) {
		ret = l7_step_edit_request(m, x, edit);
		if (ret) {
			s = l7_slot(slot);
			if (s)
				__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
			st->body_left = 0;
			st->redirected = 1;
			return ret < 0 ? l7_divert(m, st, c, L7_REASON_NO_MEMORY) : l7_reset(m, st, c);
		}
	}
	c->slot = slot;
	c->forwarded += 1;
	l7_count(L7_REASON_FORWARDED);
	l7_count_rule(x->result.rule, L7_COUNT_FORWARDED);
	return SK_PASS;
}

static __always_inline int l7_client(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_scratch *x)
{
	struct l7_conn *c = l7_conn(st->id);
	struct l7_config *cfg = l7_config();
	u32 size = m->size, version = l7_version(), reason;
	u64 total;

	/* the id was given to another connection, or this one was reset: its bytes have no reader */
	if (!c || !cfg || c->flags & L7_CONN_FLAG_RESET)
		return l7_swallow(m, st);
	if (st->body_left)
		return l7_client_body(m, st, c);
	reason = l7_gate(m, st, c);
	if (reason)
		return l7_divert(m, st, c, reason);
	reason = l7_head_of(m, x, 0, 0);
	if (reason)
		return l7_divert(m, st, c, reason);
	total = x->head.head_len + x->head.content_length;
	if (x->head.content_length > cfg->body_limit)
		return l7_divert(m, st, c, L7_REASON_BODY_TOO_LARGE);
	/* a second request in the message could not be told apart once the first is redirected */
	if (total < size) {
		c->flags |= L7_CONN_FLAG_PIPELINES;
		return l7_divert(m, st, c, L7_REASON_PIPELINED);
	}
	x->flow.port = st->orig_port;
	x->flow.source_bits = l7_source_bits_of(st);
	x->flow.source_ip_bits = l7_source_ip_bits_of(st);
	l7_step_decide(m, x, bpf_get_prandom_u32());
	if (x->result.verdict == L7_VERDICT_DIVERT) {
		l7_count_rule(x->result.rule, L7_COUNT_DIVERTED);
		return l7_divert(m, st, c, x->result.reason);
	}
	st->body_left = total - size;
	if (x->result.verdict == L7_VERDICT_REPLY)
		return l7_reply_to(m, st, c, x, cfg, version);
	if (x->result.verdict == L7_VERDICT_FORWARD)
		return l7_forward(m, st, c, x, cfg, version);
	st->body_left = 0;
	return l7_divert(m, st, c, L7_REASON_RULE_SLOW);
}

#endif
