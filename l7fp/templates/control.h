/* SPDX-License-Identifier: GPL-2.0 */
/* The control program: slot transitions on behalf of the agent, which has no atomic instructions of its own. */
#ifndef L7_CONTROL_H
#define L7_CONTROL_H

#include "slot.h"

struct l7_sweep {
	u64 now;
	u32 last;
	u32 found;
};

/* CLAIM: from here on the agent answers. Refused once S has begun to. */
static __always_inline u32 l7_claim(struct l7_slot *s, u32 owner, u64 *before)
{
	u64 state = s->state;

	*before = state;
	if (!(state & L7_SLOT_FLAG_BUSY) || (u32)state != owner)
		return 1;
	if (state & (L7_SLOT_FLAG_RESPONSE_STARTED | L7_SLOT_FLAG_ADOPTED | L7_SLOT_ENDED))
		return 1;
	return __sync_val_compare_and_swap(&s->state, state, state | L7_SLOT_FLAG_CLAIMED) != state;
}

static long l7_sweep_step(u32 i, struct l7_sweep *x)
{
	u32 id = i + 1;
	struct l7_slot *s;
	struct l7_event *e;
	u64 state;
	u32 limit;

	if (id > x->last)
		return 1;
	s = l7_slot(id);
	if (!s)
		return 1;
	state = s->state;
	limit = s->timeout_ms;
	if (!(state & L7_SLOT_FLAG_BUSY) || !limit || state & L7_SLOT_ENDED || s->deadline_told)
		return 0;
	if (s->started_ns + (u64)limit * 1000000 > x->now)
		return 0;
	/* a transaction that began between the reads carries the newer start: look again before acting */
	if (s->state != state || s->started_ns + (u64)limit * 1000000 > x->now)
		return 0;
	/* the record first: a claim that the agent is never told of would leave the client waiting for ever */
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 1;
	__builtin_memset(e, 0, sizeof(*e));
	s->deadline_told = 1;
	e->type = l7_claim(s, (u32)state, &state) ? L7_EVENT_TYPE_TIMEOUT_LATE : L7_EVENT_TYPE_TIMEOUT;
	e->time_ns = x->now;
	e->conn = (u32)state;
	e->slot = id;
	e->rule = s->rule;
	e->version = s->version;
	e->endpoint = s->endpoint;
	bpf_ringbuf_submit(e, 0);
	x->found++;
	return 0;
}

SEC("syscall")
int ctl(struct l7_ctl *c)
{
	u32 id = c->id, op = c->op;
	struct l7_slot *s;
	u64 state, before = 0;

	c->result = 1;
	if (op == L7_CTL_OP_SWEEP) {
		struct l7_sweep x = { .now = bpf_ktime_get_ns(), .last = id };

		bpf_loop(L7_MAX_SLOTS, l7_sweep_step, &x, 0);
		c->result = x.found;
		return 0;
	}
	s = l7_slot(id);
	if (!s)
		return 0;
	switch (op) {
	case L7_CTL_OP_CLAIM:
		c->result = l7_claim(s, c->arg, &before);
		break;
	case L7_CTL_OP_RELEASE:
		before = __sync_fetch_and_or(&s->state, L7_SLOT_FLAG_RESPONSE_DONE);
		state = before | L7_SLOT_FLAG_RESPONSE_DONE;
		if (state & L7_SLOT_FLAG_REQUEST_DONE)
			c->result = l7_slot_finish(s, id, state) ? 1 : 0;
		else /* S answered before it had the whole request: not worth waiting for the rest */
			__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
		break;
	case L7_CTL_OP_KILL: /* claimed too: the owner stays on the slow path until the agent has settled with it */
		before = __sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD | L7_SLOT_FLAG_CLAIMED);
		c->result = 0;
		break;
	case L7_CTL_OP_OFFER:
		before = s->state;
		if (!(before & L7_SLOT_FLAG_BUSY) && __sync_val_compare_and_swap(&s->state, before, 0) == before)
			c->result = l7_slot_push(s, id) ? 1 : 0;
		break;
	}
	c->state = before;
	return 0;
}

#endif
