/* SPDX-License-Identifier: GPL-2.0 */
/* Method and target of a request (RFC 9112 3). */
#ifndef L7_REQUEST_LINE_H
#define L7_REQUEST_LINE_H

#include "parser.h"

/* l7_head.state in the target */
enum { L7_ON_PATH, L7_ON_QUERY };

/* Only methods that every server knows: what to make of another is the slow path's to say. 0, or 1 with h->reason. */
static __always_inline long l7_method(struct l7_parser *p)
{
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u64 w = l7_load(p->v, d, e, 0), other = ~l7_between(w, 'A', 'Z') & L7_HIGH;
	u32 n;

	if (!other) /* none of them has eight letters */
		return l7_stop(h, L7_REASON_SYNTAX);
	n = l7_first(other);
	if (l7_byte(w, n) != ' ')
		return d + n + 1 > e ? l7_cut_short(h) : l7_stop(h, L7_REASON_SYNTAX);
	switch (w & ((1ULL << (8 * n)) - 1)) {
	case 0x44414548ULL: /* HEAD */
		h->flags |= L7_HEAD_IS_HEAD | L7_HEAD_NO_BODY;
		break;
	case 0x544547ULL: /* GET */
	case 0x4554454c4544ULL: /* DELETE */
	case 0x534e4f4954504fULL: /* OPTIONS */
		h->flags |= L7_HEAD_NO_BODY;
		break;
	case 0x54534f50ULL: /* POST */
	case 0x545550ULL: /* PUT */
	case 0x4843544150ULL: /* PATCH */
		break;
	default:
		return l7_stop(h, L7_REASON_SYNTAX);
	}
	h->method_len = n;
	if (L7_METHOD_DFA)
		h->bits[L7_BITS_METHOD] = l7_value_bits(p->cells, l7_dfa_run(L7_METHOD_DFA, w, n));
	return 0;
}

/* What ends a path, `?`, and what some mode of normalisation changes or refuses: " % ; < > [ \\ ] ^ ` { | } */
static __always_inline u64 l7_unplain(u64 w)
{
	return l7_between(w, '>', '?') | l7_between(w, ';', '<') | l7_between(w | L7_EACH(0x20), '{', '}') |
	       l7_equal(w, '%') | l7_equal(w, '"') | l7_equal(w, '^') | l7_equal(w, '`');
}

/* The path goes on only as long as no normalisation would change it. h->last: 1 after a slash, 2 after `/.`,
 * 3 after `/..`, else 0. */
static long l7_target_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u32 off = h->off & L7_OFF_MASK, n = 0, dots = h->last;
	u64 w = l7_load(p->v, d, e, off), odd = l7_invisibles(w) | l7_equal(w, '#'), slash;
	u8 c;

	if (h->state == L7_ON_PATH) {
		slash = l7_equal(w, '/');
		odd |= l7_unplain(w);
		odd |= (slash << 8 | (dots == 1 ? 0x80 : 0)) & (slash | l7_equal(w, '.'));
		if (dots >= 2)
			odd |= 0x80;
	} else {
		slash = 0;
	}
	if (!odd) {
		h->off = off + 8;
		h->last = slash >> 63;
		return off >= L7_MAX_HEAD ? l7_stop(h, L7_REASON_HEAD_TOO_LARGE) : 0;
	}
	n = l7_first(odd);
	if (d + off + n + 1 > e)
		return l7_cut_short(h);
	c = l7_byte(w, n);
	if (n)
		dots = l7_byte(slash, n - 1) >> 7;
	off += n;
	h->off = off + 1;
	if (c == '#')
		return l7_stop(h, L7_REASON_PATH_UNSAFE);
	if (h->state == L7_ON_QUERY) {
		if (c != ' ')
			return l7_stop(h, L7_REASON_SYNTAX);
		h->query_len = off - h->query_off;
		return l7_stop(h, 0);
	}
	if (c == '/' || c == '.') {
		if (c == '/' && dots)
			return l7_stop(h, L7_REASON_PATH_UNSAFE);
		h->last = c == '/' ? 1 : dots ? (dots + 1) & 3 : 0;
		return 0;
	}
	if (c == ' ' || c == '?') {
		if (dots >= 2)
			return l7_stop(h, L7_REASON_PATH_UNSAFE);
		h->path_len = off - h->path_off;
		if (c == ' ')
			return l7_stop(h, 0);
		h->query_off = off;
		h->state = L7_ON_QUERY;
		return 0;
	}
	if (c < 0x21)
		return l7_stop(h, L7_REASON_SYNTAX);
	if (c > 0x7e || l7_unplain(c) & 0x80)
		return l7_stop(h, L7_REASON_PATH_UNSAFE);
	h->last = 0; /* `/.x` and `/..x` are names like any other */
	return 0;
}

/* From the message's first byte to its first header line. 0 or a reason. */
L7_GLOBAL u32 l7_request_line(L7_CTX *c, struct l7_head *h)
{
	struct l7_view view = L7_VIEW_OF(c), *v = &view;
	struct l7_parser p = { .v = v, .h = h, .cells = l7_cells() };
	u8 *q, *e;
	u32 off;
	u64 w;

	if (!h || !p.cells)
		return L7_REASON_NO_POLICY;
	if (l7_method(&p))
		return h->reason;
	off = h->method_len + 1;
	q = (u8 *)VIEW_BEGIN(v) + (off & L7_OFF_MASK);
	e = VIEW_END(v);
	if (q + 1 > e) {
		l7_cut_short(h);
		return h->reason;
	}
	if (*q != '/')
		return h->reason = L7_REASON_SYNTAX;
	h->path_off = off;
	h->off = off;
	h->state = L7_ON_PATH;
	h->reason = L7_REASON_HEAD_TOO_LARGE;
	l7_loop(2 * L7_MAX_HEAD, l7_target_step, &p, 0);
	if (h->reason)
		return h->reason;
	off = h->off;
	q = (u8 *)VIEW_BEGIN(v) + (off & L7_OFF_MASK);
	e = VIEW_END(v);
	w = l7_load(v, VIEW_BEGIN(v), e, off);
	if (q + 10 > e) {
		if (!l7_may_become(w, L7_HTTP_1_1) || (q + 9 <= e && q[8] != '\r'))
			return h->reason = L7_REASON_SYNTAX;
		l7_cut_short(h);
		return h->reason;
	}
	if (w != L7_HTTP_1_1 || q[8] != '\r' || q[9] != '\n')
		return h->reason = L7_REASON_SYNTAX;
	h->off = off + 10;
	return 0;
}

#endif
