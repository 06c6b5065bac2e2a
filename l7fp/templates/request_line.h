/* SPDX-License-Identifier: GPL-2.0 */
/* Method and target of a request (RFC 9112 3). */
#ifndef L7_REQUEST_LINE_H
#define L7_REQUEST_LINE_H

#include "parser.h"

/* l7_head.state in the target */
enum { L7_ON_PATH, L7_ON_QUERY };

static long l7_method_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u32 at = (i & 3) * 8, n;
	u64 w = l7_load(p->v, d, e, at), space = l7_equal(w, ' ');

	if (l7_before(~l7_between(w, 'A', 'Z') & L7_HIGH, space)) {
		n = l7_first(~l7_between(w, 'A', 'Z') & L7_HIGH);
		return d + at + n + 1 > e ? l7_cut_short(h) : l7_stop(h, L7_REASON_SYNTAX);
	}
	n = space ? l7_first(space) : 8;
	if (L7_METHOD_DFA)
		h->dfa = l7_dfa_run(h->dfa, w, n);
	if (!space)
		return 0;
	h->method_len = at + n;
	if (!h->method_len)
		return l7_stop(h, L7_REASON_SYNTAX);
	if (L7_METHOD_DFA)
		h->bits[L7_BITS_METHOD] = l7_value_bits(p->cells, h->dfa);
	if (!at) {
		w &= (1ULL << (8 * n)) - 1;
		if (w == 0x44414548ULL) /* HEAD */
			h->flags |= L7_HEAD_IS_HEAD | L7_HEAD_NO_BODY;
		else if (w == 0x544547ULL || w == 0x4554454c4544ULL) /* GET, DELETE */
			h->flags |= L7_HEAD_NO_BODY;
		else if (w == 0x534e4f4954504fULL || w == 0x4543415254ULL) /* OPTIONS, TRACE */
			h->flags |= L7_HEAD_NO_BODY;
	}
	return 1;
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
	h->dfa = L7_METHOD_DFA;
	h->reason = 0;
	l7_loop(4, l7_method_step, &p, 0);
	if (h->reason)
		return h->reason;
	if (!h->method_len)
		return h->reason = L7_REASON_SYNTAX;
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
