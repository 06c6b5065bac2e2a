/* SPDX-License-Identifier: GPL-2.0 */
/* The ways out of the sk_msg program other than the fast one. There is no other: every path of the program
 * ends in a redirect it asked for, or in one of these.
 *
 * SK_DROP is not among them: it is sticky (the socket's later sends fail with EACCES and the program never runs
 * again), so bytes are swallowed by popping them off the message.
 */
#ifndef L7_DIVERT_H
#define L7_DIVERT_H

#include "slot.h"

/* Sends the message where it would go without us: C's bytes to A1, S's bytes to A2. `sk_redir` of a message
 * survives from run to run and turns SK_PASS into a redirect to the old target; after a redirect was set, the
 * way back is a redirect to the egress of the socket itself. */
static __always_inline int l7_pass(struct sk_msg_md *m, u64 self, int redirected)
{
	if (redirected)
		bpf_msg_redirect_hash(m, &sockhash, &self, 0);
	return SK_PASS;
}

static __always_inline u64 l7_self(struct l7_sock_state *st)
{
	return L7_SOCK_KEY(st->kind == L7_SOCK_KIND_SERVER ? L7_SOCK_KEY_KIND_SERVER : L7_SOCK_KEY_KIND_CLIENT, st->id);
}

/* Removes the whole message: the sender's call succeeds, nobody receives it. */
static __always_inline int l7_swallow(struct sk_msg_md *m, struct l7_sock_state *st)
{
	u32 size = m->size;

	if (size)
		bpf_msg_pop_data(m, 0, size, 0);
	return l7_pass(m, l7_self(st), st->redirected);
}

/* Request bytes to the slow path, accounted so that the connection comes back only when they are answered. */
static __always_inline int l7_divert(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c, u32 reason)
{
	c->passed += m->size;
	c->diverted += 1;
	l7_count(reason);
	return l7_pass(m, l7_self(st), st->redirected);
}

/* A message was changed and then could not be delivered: nothing sound is left but to end the connection. */
static __always_inline int l7_reset(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_conn *c)
{
	struct l7_event e = { .type = L7_EVENT_TYPE_RESET, .conn = c->id, .time_ns = bpf_ktime_get_ns() };

	c->flags |= L7_CONN_FLAG_RESET;
	l7_count(L7_REASON_RESET);
	bpf_ringbuf_output(&events, &e, sizeof(e), 0);
	return l7_swallow(m, st);
}

/* The slot that S serves; 0 for the server of an earlier use of the slot id, which may still be sending: its A2 is
 * closed, and what it says is nobody's answer. */
static __always_inline struct l7_slot *l7_served_slot(struct l7_sock_state *st)
{
	struct l7_slot *s = l7_slot(st->id);

	return s && s->server == st->cookie ? s : 0;
}

/* Response bytes to A2, where the agent relays them. */
static __always_inline int l7_adopt(struct sk_msg_md *m, struct l7_sock_state *st, struct l7_slot *s, u32 mode, u32 reason)
{
	s->resp_mode = mode;
	__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_ADOPTED | L7_SLOT_FLAG_RESPONSE_STARTED);
	l7_count(reason);
	return l7_pass(m, l7_self(st), st->redirected);
}

/* No program or no memory to decide with: requests to the slow path, responses to the agent. */
static __always_inline int l7_undecided(struct sk_msg_md *m, struct l7_sock_state *st, u32 reason)
{
	struct l7_conn *c;
	struct l7_slot *s;

	if (st->kind == L7_SOCK_KIND_CLIENT) {
		c = l7_conn(st->id);
		if (!c)
			return l7_swallow(m, st);
		/* the rest of a body that went to a server must not be read as a request */
		return st->body_left ? l7_reset(m, st, c) : l7_divert(m, st, c, reason);
	}
	if (st->kind == L7_SOCK_KIND_SERVER) {
		s = l7_served_slot(st);
		return s ? l7_adopt(m, st, s, L7_RESP_MODE_ADOPT, reason) : l7_swallow(m, st);
	}
	return SK_PASS; /* not a managed socket any more */
}

#endif
