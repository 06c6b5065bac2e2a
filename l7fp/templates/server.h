/* SPDX-License-Identifier: GPL-2.0 */
/* Server side of the fast path: runs on every sendmsg() of S, under S's socket lock. It frames the response, so
 * that the slot is released exactly at its end, and leaves to the agent every response it is not sure of.
 */
#ifndef L7_SERVER_H
#define L7_SERVER_H

#include "divert.h"
#include "steps.h"

#define L7_CONTINUE -1

static __always_inline void l7_response_event(struct l7_slot *s, u32 slot, struct l7_config *cfg)
{
	struct l7_event e = {};

	if (!(cfg->event_mask & (1U << L7_EVENT_TYPE_REQUEST)))
		return;
	e.type = L7_EVENT_TYPE_REQUEST;
	e.time_ns = bpf_ktime_get_ns();
	e.latency_ns = e.time_ns - s->started_ns;
	e.bytes = s->resp_bytes;
	e.conn = s->conn;
	e.slot = slot;
	e.rule = s->rule;
	e.version = s->version;
	e.endpoint = s->endpoint;
	e.status = s->status;
	l7_emit(cfg, &e);
}

/* The response is delivered. One that overtook its request's body leaves a connection that is not worth saving:
 * reused, the next request could arrive among the rest of that body. */
static __always_inline void l7_response_done(struct l7_slot *s, u32 slot, struct l7_config *cfg)
{
	l7_response_event(s, slot, cfg);
	l7_count(L7_REASON_RESPONSES);
	if (!(s->state & L7_SLOT_FLAG_REQUEST_DONE))
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_NO_REUSE);
	l7_slot_half(s, slot, L7_SLOT_FLAG_RESPONSE_DONE);
}

/* Bytes [off, size) of the message are body; *end is where the response ends in it, at most `size`. L7_CHUNKED_*. */
static __always_inline u32 l7_response_body(struct sk_msg_md *m, struct l7_slot *s, struct l7_scratch *x, u32 off, u32 size,
					    u32 *end)
{
	u32 n = size - off, outcome;

	*end = size;
	if (s->resp_mode == L7_RESP_MODE_CHUNKED || s->resp_mode == L7_RESP_MODE_RELAY_CHUNKED) {
		x->chunks.left = s->resp_left;
		x->chunks.state = s->chunk_state;
		x->chunks.digits = s->chunk_digits;
		outcome = l7_step_chunked(m, x, off, size);
		s->resp_left = x->chunks.left;
		s->chunk_state = x->chunks.state;
		s->chunk_digits = x->chunks.digits;
		if (outcome == L7_CHUNKED_DONE)
			*end = x->chunks.end;
	} else {
		if (n > s->resp_left) {
			n = s->resp_left;
			*end = off + n;
		}
		s->resp_left -= n;
		outcome = s->resp_left ? L7_CHUNKED_MORE : L7_CHUNKED_DONE;
	}
	s->resp_bytes += *end - off;
	return outcome;
}

/* S broke its response off in a way that can't be relayed: both sides of the transaction end. */
static __always_inline int l7_response_broken(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_slot *s, u64 state)
{
	struct l7_conn *c = l7_conn((u32)state);

	__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
	return c ? l7_reset(m, st, c) : l7_swallow(m, st);
}

/* The first message of a response. Returns a verdict, or L7_CONTINUE with *off at its body. */
static __always_inline int l7_response_head(struct sk_msg_md *m, struct l7_sock_state *st,
					    struct l7_slot *s, struct l7_scratch *x, struct l7_config *cfg)
{
	u32 size = m->size, body;

	if (l7_head_of(m, x, 1, s->is_head))
		return l7_adopt(m, st, s, L7_RESP_MODE_ADOPT, L7_REASON_ADOPTED_RESPONSE);
	/* the request began under another version, whose edits this one does not know */
	if (s->version != l7_version())
		return l7_adopt(m, st, s, L7_RESP_MODE_ADOPT, L7_REASON_ADOPTED_RESPONSE);
	body = size - x->head.head_len;
	s->status = x->head.status;
	if (x->head.flags & L7_HEAD_CHUNKED) {
		s->resp_mode = L7_RESP_MODE_CHUNKED;
		s->resp_left = 0;
		s->chunk_state = 0;
		s->chunk_digits = 0;
	} else {
		/* more bytes than the response has, or more than may be queued at a client that does not read */
		if (body > x->head.content_length || x->head.content_length > cfg->body_limit)
			return l7_adopt(m, st, s, L7_RESP_MODE_ADOPT,
					x->head.content_length > cfg->body_limit ? L7_REASON_RELAYED_BODY :
										   L7_REASON_ADOPTED_RESPONSE);
		s->resp_mode = L7_RESP_MODE_LENGTH;
		s->resp_left = x->head.content_length;
	}
	return L7_CONTINUE;
}

/* Puts one byte behind the response and ends this run before it: the kernel delivers the response and then runs the
 * program on that byte. Only then is the transaction over. Released earlier, a client that does not wait for answers
 * could have its next request answered while this answer is still on its way. 0, < 0 with nothing changed, > 0. */
static __always_inline int l7_fence(struct sk_msg_md *m)
{
	u32 size = m->size;
	u8 *d, last;

	if (!size || bpf_msg_pull_data(m, size - 1, size, 0))
		return -1;
	d = m->data;
	if (d + 1 > (u8 *)m->data_end)
		return -1;
	last = *d;
	/* before the last byte: not all kernels insert at the very end */
	if (bpf_msg_push_data(m, size - 1, 1, 0))
		return -1;
	if (bpf_msg_pull_data(m, size - 1, size, 0))
		return 1;
	d = m->data;
	if (d + 1 > (u8 *)m->data_end)
		return 1;
	*d = last;
	return bpf_msg_apply_bytes(m, size) ? 1 : 0;
}

/* The run on the byte behind the response, which goes nowhere whatever has become of the slot meanwhile. */
static __always_inline int l7_fenced(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_slot *s,
				     struct l7_config *cfg)
{
	if (s->resp_mode == L7_RESP_MODE_FENCE && s->state & L7_SLOT_FLAG_BUSY)
		l7_response_done(s, st->id, cfg);
	return l7_swallow(m, st);
}

static __always_inline int l7_server(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_scratch *x)
{
	struct l7_slot *s = l7_served_slot(st);
	struct l7_config *cfg = l7_config();
	u32 size = m->size, off = 0, end, outcome, edit = L7_NONE, closing = 0;
	struct l7_dest *dest;
	struct l7_conn *c;
	u64 state, key;
	int ret, head;

	if (!s || !cfg)
		return l7_swallow(m, st);
	state = s->state;
	if (st->redirected)
		return l7_fenced(m, st, s, cfg);
	if (!(state & L7_SLOT_FLAG_BUSY)) {
		l7_count(L7_REASON_STRAY_RESPONSE);
		return SK_PASS; /* to A2: the agent closes a connection that speaks unasked */
	}
	if (state & L7_SLOT_ENDED)
		return l7_swallow(m, st);
	if (state & L7_SLOT_FLAG_ADOPTED) {
		if (s->resp_mode == L7_RESP_MODE_RELAY_CHUNKED) {
			outcome = l7_response_body(m, s, x, 0, size, &end);
			s->passed += size;
			if (outcome != L7_CHUNKED_MORE)
				s->relay_done = outcome;
		}
		return SK_PASS;
	}
	if (s->resp_mode == L7_RESP_MODE_FENCE) { /* the delivery failed, and S goes on */
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
		return l7_swallow(m, st);
	}
	head = s->resp_mode == L7_RESP_MODE_HEAD;
	if (head) {
		ret = l7_response_head(m, st, s, x, cfg);
		if (ret != L7_CONTINUE)
			return ret;
		off = x->head.head_len;
		closing = x->head.flags & L7_HEAD_CLOSE;
	} else if (s->resp_mode == L7_RESP_MODE_CHUNKED && s->resp_bytes > cfg->body_limit) {
		/* bytes already queued at the client are read before those that the agent relays */
		s->resp_mode = L7_RESP_MODE_RELAY_CHUNKED;
		s->relay_done = l7_response_body(m, s, x, 0, size, &end);
		s->passed = size;
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_ADOPTED);
		l7_count(L7_REASON_RELAYED_BODY);
		return SK_PASS;
	}
	outcome = l7_response_body(m, s, x, off, size, &end);
	if (outcome == L7_CHUNKED_ERROR) {
		if (head)
			return l7_adopt(m, st, s, L7_RESP_MODE_ADOPT, L7_REASON_ADOPTED_RESPONSE);
		return l7_response_broken(m, st, s, state);
	}
	if (head) {
		/* either the agent has taken the transaction over, or from now on it can't */
		if (__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_RESPONSE_STARTED) & L7_SLOT_ENDED)
			return l7_swallow(m, st);
		if (closing)
			__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_NO_REUSE);
	}
	if (end < size) {
		/* a server that sends more than it announced: the surplus belongs to nobody's response */
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_NO_REUSE);
		if (bpf_msg_pop_data(m, end, size - end, 0))
			return l7_response_broken(m, st, s, state);
	}
	key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_CLIENT, (u32)state);
	if (bpf_msg_redirect_hash(m, &sockhash, &key, BPF_F_INGRESS) != SK_PASS) {
		l7_count(L7_REASON_CLIENT_GONE);
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
		return l7_swallow(m, st);
	}
	st->redirected = 1;
	if (head) {
		dest = l7_dest(s->dest);
		if (dest)
			edit = dest->response_edit;
		/* the target is set and the response has begun: it can't go another way now */
		if ((edit != L7_NONE || closing) && l7_step_edit_response(m, x, edit))
			return l7_response_broken(m, st, s, state);
	}
	if (outcome != L7_CHUNKED_DONE)
		return SK_PASS;
	ret = l7_fence(m);
	if (ret > 0)
		return l7_response_broken(m, st, s, state);
	if (ret < 0) { /* no memory for it: then this client gets no chance to overtake its answers again */
		c = l7_conn((u32)state);
		if (c)
			c->flags |= L7_CONN_FLAG_PIPELINES;
		l7_response_done(s, st->id, cfg);
		return SK_PASS;
	}
	s->resp_mode = L7_RESP_MODE_FENCE;
	st->tail = 1;
	return SK_PASS;
}

#endif
