/* SPDX-License-Identifier: GPL-2.0 */
/* The query parameters that a policy looks at. */
#ifndef L7_QUERY_H
#define L7_QUERY_H

#include "parser.h"

/* As Envoy reads it: pairs apart at `&`, name and value at the first `=`, nothing decoded. */
enum { L7_ON_QUERY_NAME, L7_ON_QUERY_VALUE, L7_ON_QUERY_OTHER };

static __always_inline long l7_query_name(struct l7_parser *p)
{
	struct l7_head *h = p->h;
	struct l7_query_entry *t;
	u32 index = h->dfa ? l7_dfa_output(p->cells, h->dfa) : 0;

	h->state = L7_ON_QUERY_OTHER;
	if (!index)
		return 0;
	t = l7_query(index);
	if (!t || t->slot >= L7_MAX_BITS)
		return l7_stop(h, L7_REASON_SYNTAX);
	if (h->slots_seen & 1ULL << t->slot)
		return l7_stop(h, L7_REASON_DUPLICATE_QUERY);
	h->slots_seen |= 1ULL << t->slot;
	h->slot = t->slot;
	h->dfa = t->value_dfa;
	h->state = L7_ON_QUERY_VALUE;
	return 0;
}

static long l7_query_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *e = VIEW_END(p->v), *q = (u8 *)VIEW_BEGIN(p->v) + (h->off & L7_OFF_MASK);
	int over = h->off >= h->query_off + h->query_len;
	u8 c = '&';

	if (!over) {
		if (q + 1 > e)
			return l7_stop(h, L7_REASON_SYNTAX);
		c = *q;
	}
	h->off++;
	if (c == '&') {
		if (h->state == L7_ON_QUERY_NAME && l7_query_name(p))
			return 1;
		if (h->state == L7_ON_QUERY_VALUE)
			h->bits[h->slot & (L7_MAX_BITS - 1)] = L7_PRESENT | l7_value_bits(p->cells, h->dfa);
		h->state = L7_ON_QUERY_NAME;
		h->dfa = L7_QUERY_DFA;
		return over ? l7_stop(h, 0) : 0;
	}
	if (h->state == L7_ON_QUERY_NAME && c == '=')
		return l7_query_name(p);
	if (h->state != L7_ON_QUERY_OTHER && h->dfa && !l7_dfa_is_sink(p->cells, h->dfa))
		h->dfa = l7_dfa_next(p->cells, h->dfa, c);
	return 0;
}

/* 0 or a reason. */
L7_GLOBAL u32 l7_query_parameters(L7_CTX *c, struct l7_head *h)
{
	struct l7_view v = L7_VIEW_OF(c);
	struct l7_parser p = { .v = &v, .h = h, .cells = l7_cells() };

	if (!h || !p.cells)
		return L7_REASON_NO_POLICY;
	h->off = h->query_off + 1;
	h->state = L7_ON_QUERY_NAME;
	h->dfa = L7_QUERY_DFA;
	h->reason = L7_REASON_HEAD_TOO_LARGE;
	l7_loop(2 * L7_MAX_HEAD, l7_query_step, &p, 0);
	return h->reason;
}

#endif
