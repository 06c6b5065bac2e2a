/* SPDX-License-Identifier: GPL-2.0 */
/* Heads of HTTP/1.1 messages (RFC 9112). What is accepted is the part of the grammar that no two implementations
 * read differently; everything else is left to the slow path, by reason. One pass finds the fields that framing
 * and policy depend on and runs the value automata; a second one reads the query, where the policy looks at it.
 */
#ifndef L7_PARSE_HTTP1_H
#define L7_PARSE_HTTP1_H

#include "head.h"
#include "swar.h"
#include "tables.h"
#include "dfa.h"

/* l7_head.state in the target */
enum { L7_ON_PATH, L7_ON_QUERY };
/* l7_head.state in the header section */
enum {
	L7_ON_LINE, /* at the start of a line */
	L7_ON_NAME,
	L7_ON_SKIPPED, /* in a value that nobody looks at */
	L7_ON_VALUE, /* in a value with an automaton */
	L7_ON_HOST,
	L7_ON_HOST_V6,
	L7_ON_HOST_V6_END,
	L7_ON_PORT,
	L7_ON_LENGTH,
};

struct l7_parser {
	struct l7_view *v;
	struct l7_head *h;
	const u64 *cells;
};

static __always_inline long l7_stop(struct l7_head *h, u32 reason)
{
	h->reason = reason;
	return 1;
}

/* the readable bytes end inside the head */
static __always_inline long l7_cut_short(struct l7_head *h)
{
	return l7_stop(h, h->limit < L7_MAX_HEAD ? L7_REASON_INCOMPLETE_HEAD : L7_REASON_HEAD_TOO_LARGE);
}

#define L7_HTTP_1_1 0x312e312f50545448ULL
#define L7_CHUNKED_CR 0x0d64656b6e756863ULL
#define L7_CLOSE 0x0a0d65736f6c63ULL /* close CR LF: 7 bytes */
#define L7_FOLD_CLOSE 0x2020202020ULL /* makes its letters small */
#define L7_KEEP_ALI 0x696c612d7065656bULL
#define L7_FOLD_KEEP 0x2020200020202020ULL

/* all bits of the bytes that are 0 */
static __always_inline u64 l7_missing(u64 w)
{
	return (l7_equal(w, 0) >> 7) * 0xff;
}

/* Whether what there is of w, whose missing bytes read as 0, may become `want`. */
static __always_inline int l7_may_become(u64 w, u64 want)
{
	return !l7_before(~l7_equal(w ^ want, 0) & L7_HIGH, l7_equal(w, 0));
}

/* State after the first n bytes of w; stops where the outcome is certain. */
static
#ifndef L7_HOST
	__attribute__((noinline))
#endif
	u32 l7_dfa_run(const u64 *cells, u32 state, u64 w, u32 n)
{
	for (u32 i = 0; i < 8; i++) {
		if (i >= n || !state || l7_dfa_is_sink(cells, state))
			break;
		state = l7_dfa_next(cells, state, w & 0xff);
		w >>= 8;
	}
	return state;
}

#define L7_PRESENT 1 /* bit of a header's or query parameter's word: it occurs */

/* What the value automaton says at the end of a value. */
static __always_inline u64 l7_value_bits(const u64 *cells, u32 state)
{
	u32 out;
	u64 *mask;

	out = state ? l7_dfa_output(cells, state) : 0;
	mask = out ? l7_mask(out) : 0;
	return mask ? *mask : 0;
}

/* ---- request line ---- */

static long l7_method_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u32 at = (i & 3) * 8, n;
	u64 w = l7_load(p->v, at), space = l7_equal(w, ' ');

	if (l7_before(~l7_between(w, 'A', 'Z') & L7_HIGH, space)) {
		n = l7_first(~l7_between(w, 'A', 'Z') & L7_HIGH);
		return d + at + n + 1 > e ? l7_cut_short(h) : l7_stop(h, L7_REASON_SYNTAX);
	}
	n = space ? l7_first(space) : 8;
	if (L7_METHOD_DFA)
		h->dfa = l7_dfa_run(p->cells, h->dfa, w, n);
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

/* The path goes on only as long as no normalisation would change it. h->last: 1 after a slash, 2 after `/.`,
 * 3 after `/..`, else 0. */
static long l7_target_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u32 off = h->off & L7_OFF_MASK, n = 0, dots = h->last;
	u64 w = l7_load(p->v, off), odd = l7_invisibles(w) | l7_equal(w, '#'), slash;
	u8 c;

	if (h->state == L7_ON_PATH) {
		slash = l7_equal(w, '/');
		odd |= l7_equal(w, '?') | l7_equal(w, '%') | l7_equal(w, '\\') | l7_equal(w, ';');
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
	if (c == '%' || c == '\\' || c == ';')
		return l7_stop(h, L7_REASON_PATH_UNSAFE);
	if (c < 0x21 || c > 0x7e)
		return l7_stop(h, c < 0x21 ? L7_REASON_SYNTAX : L7_REASON_PATH_UNSAFE);
	h->last = 0; /* `/.x` and `/..x` are names like any other */
	return 0;
}

/* ---- header lines ---- */

/* After a line that edits or policy look at. */
static __always_inline void l7_keep_line(struct l7_head *h, u32 end)
{
	struct l7_place *at = &h->places[h->edit & (L7_MAX_PLACES - 1)];

	if (h->edit) {
		at->off = h->line;
		at->len = end - h->line;
	}
}

/* Byte n of the word at `off` ended a value. 0 if that is a CR LF, and then the next line follows. */
static __always_inline long l7_end_line(struct l7_parser *p, u32 off, u64 w, u32 n)
{
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u8 *q = d + ((off + n) & L7_OFF_MASK);

	if (q + 2 > e) /* a missing byte reads as 0 */
		return q + 1 > e || *q == '\r' ? l7_cut_short(h) : l7_stop(h, L7_REASON_SYNTAX);
	if (q[0] != '\r' || q[1] != '\n')
		return l7_stop(h, L7_REASON_SYNTAX);
	h->off = off + n + 2;
	h->state = L7_ON_LINE;
	if (!h->line_len)
		h->line_len = h->off;
	l7_keep_line(h, h->off);
	return 0;
}

/* `Connection` may say keep-alive, and in a response close; `off` is the value's first byte. */
static __always_inline long l7_connection(struct l7_parser *p, u32 off)
{
	struct l7_head *h = p->h;
	u8 *e = VIEW_END(p->v), *q = (u8 *)VIEW_BEGIN(p->v) + (off & L7_OFF_MASK);
	u64 w;

	if (h->flags & L7_HEAD_HAS_CONNECTION)
		return l7_stop(h, L7_REASON_HOP_BY_HOP);
	h->flags |= L7_HEAD_HAS_CONNECTION;
	w = l7_load(p->v, off);
	if (h->flags & L7_HEAD_RESPONSE) {
		if (((w | L7_FOLD_CLOSE) & 0xffffffffffffffULL) == L7_CLOSE) {
			h->flags |= L7_HEAD_CLOSE;
			h->off = off + 7;
			h->state = L7_ON_LINE;
			h->connection.off = h->line;
			h->connection.len = off + 7 - h->line;
			l7_keep_line(h, off + 7);
			return 0;
		}
	}
	if (q + 12 > e) {
		int may = l7_may_become(w | (L7_FOLD_KEEP & ~l7_missing(w)), L7_KEEP_ALI);

		if (h->flags & L7_HEAD_RESPONSE)
			may |= l7_may_become(w | (L7_FOLD_CLOSE & ~l7_missing(w)), L7_CLOSE);
		return may ? l7_cut_short(h) : l7_stop(h, L7_REASON_HOP_BY_HOP);
	}
	if ((w | L7_FOLD_KEEP) != L7_KEEP_ALI || (q[8] | 0x20) != 'v' || (q[9] | 0x20) != 'e')
		return l7_stop(h, L7_REASON_HOP_BY_HOP);
	return l7_end_line(p, off + 8, 0, 2);
}

/* `Transfer-Encoding` ends the fast path of a request; a response may be chunked and nothing else. */
static __always_inline long l7_transfer_encoding(struct l7_parser *p, u32 off)
{
	struct l7_head *h = p->h;
	u8 *e = VIEW_END(p->v), *q = (u8 *)VIEW_BEGIN(p->v) + (off & L7_OFF_MASK);

	if (!(h->flags & L7_HEAD_RESPONSE) || h->flags & L7_HEAD_CHUNKED)
		return l7_stop(h, L7_REASON_TRANSFER_ENCODING);
	if (q + 9 > e)
		return l7_may_become(l7_load(p->v, off), L7_CHUNKED_CR) ? l7_cut_short(h) : l7_stop(h, L7_REASON_TRANSFER_ENCODING);
	if (l7_word(q) != L7_CHUNKED_CR)
		return l7_stop(h, L7_REASON_TRANSFER_ENCODING);
	h->flags |= L7_HEAD_CHUNKED;
	return l7_end_line(p, off, 0, 7);
}

/* The name of header `index` has been read; its value begins at h->off. Decides how that is read. */
static
#ifndef L7_HOST
	__attribute__((noinline))
#endif
	long l7_value_starts(struct l7_parser *p, u32 index)
{
	struct l7_head *h = p->h;
	struct l7_header_entry *t;
	u32 slot, off = h->off;
	u8 *e = VIEW_END(p->v), *q = (u8 *)VIEW_BEGIN(p->v) + (off & L7_OFF_MASK);

	t = h->flags & L7_HEAD_RESPONSE ? l7_response_header(index) : l7_header(index);
	if (!t)
		return l7_stop(h, L7_REASON_SYNTAX);
	if (t->kind == L7_HEADER_KIND_DIVERT)
		return l7_stop(h, L7_REASON_HOP_BY_HOP);
	if (q + 1 > e)
		return l7_cut_short(h);
	if (*q == ' ' || *q == '\t') /* more white space than anyone sends before a value that counts */
		return l7_stop(h, L7_REASON_SYNTAX);
	if (t->value_dfa && t->kind != L7_HEADER_KIND_POLICY && t->kind != L7_HEADER_KIND_OTHER)
		return l7_stop(h, L7_REASON_RULE_SLOW); /* their values are read for framing only */
	slot = t->slot;
	h->edit = t->edit & (L7_MAX_PLACES - 1);
	if (h->edit) {
		if (h->edits_seen & 1ULL << h->edit)
			return l7_stop(h, L7_REASON_DUPLICATE_HEADER);
		h->edits_seen |= 1ULL << h->edit;
	}
	h->state = L7_ON_SKIPPED;
	if (slot < L7_MAX_BITS) {
		if (h->slots_seen & 1ULL << slot)
			return l7_stop(h, L7_REASON_DUPLICATE_HEADER);
		h->slots_seen |= 1ULL << slot;
		h->bits[slot] = L7_PRESENT;
		h->slot = slot;
		h->dfa = t->value_dfa;
		h->last = 0;
		if (h->dfa)
			h->state = L7_ON_VALUE;
	}
	switch (t->kind) {
	case L7_HEADER_KIND_HOST:
		if (h->flags & L7_HEAD_HAS_HOST)
			return l7_stop(h, L7_REASON_SYNTAX);
		h->flags |= L7_HEAD_HAS_HOST;
		h->host_off = off;
		h->state = *q == '[' ? L7_ON_HOST_V6 : L7_ON_HOST;
		h->off = off + (*q == '[');
		h->last = 0;
		break;
	case L7_HEADER_KIND_CONTENT_LENGTH:
		if (h->flags & L7_HEAD_HAS_LENGTH)
			return l7_stop(h, L7_REASON_SYNTAX);
		h->flags |= L7_HEAD_HAS_LENGTH;
		h->state = L7_ON_LENGTH;
		h->last = 0;
		break;
	case L7_HEADER_KIND_TRANSFER_ENCODING:
		return l7_transfer_encoding(p, off);
	case L7_HEADER_KIND_CONNECTION:
		return l7_connection(p, off);
	}
	return 0;
}

/* Inside a value that counts: the word at h->off. */
static
#ifndef L7_HOST
	__attribute__((noinline))
#endif
	long l7_value_step(struct l7_parser *p)
{
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v);
	u32 off = h->off & L7_OFF_MASK, n, i;
	u64 w = l7_load(p->v, off), stop;
	u8 c;

	switch (h->state) {
	case L7_ON_VALUE:
		stop = l7_controls(w) | (w & L7_HIGH);
		break;
	case L7_ON_HOST:
		stop = ~(l7_letters(w) | l7_digits(w) | l7_equal(w, '-') | l7_equal(w, '.') | l7_equal(w, '_')) & L7_HIGH;
		break;
	case L7_ON_HOST_V6:
		stop = ~(l7_digits(w) | l7_between(w | L7_EACH(0x20), 'a', 'f') | l7_equal(w, ':') | l7_equal(w, '.')) & L7_HIGH;
		break;
	case L7_ON_HOST_V6_END:
		stop = 0x80;
		break;
	default: /* L7_ON_PORT, L7_ON_LENGTH */
		stop = ~l7_digits(w) & L7_HIGH;
	}
	n = stop ? l7_first(stop) : 8;
	if (h->state == L7_ON_VALUE) {
		h->dfa = l7_dfa_run(p->cells, h->dfa, w, n);
		if (n)
			h->last = l7_byte(w, n - 1);
	} else if (h->state == L7_ON_LENGTH) {
		for (i = 0; i < 8; i++) {
			if (i >= n)
				break;
			h->content_length = h->content_length * 10 + (l7_byte(w, i) - '0');
		}
		h->last += n;
		if (h->last > 16)
			return l7_stop(h, L7_REASON_SYNTAX);
	} else if (h->state == L7_ON_PORT) {
		h->last += n;
	} else if (n) {
		h->last = l7_byte(w, n - 1);
	}
	if (!stop) {
		h->off = off + 8;
		return off >= L7_MAX_HEAD ? l7_stop(h, L7_REASON_HEAD_TOO_LARGE) : 0;
	}
	if (d + off + n + 1 > e)
		return l7_cut_short(h);
	c = l7_byte(w, n);
	switch (h->state) {
	case L7_ON_VALUE:
		if (h->last == ' ') /* white space around a value is not part of it */
			return l7_stop(h, L7_REASON_SYNTAX);
		h->bits[h->slot & (L7_MAX_BITS - 1)] = L7_PRESENT | l7_value_bits(p->cells, h->dfa);
		break;
	case L7_ON_HOST_V6:
		if (c != ']')
			return l7_stop(h, L7_REASON_SYNTAX);
		h->off = off + n + 1;
		h->state = L7_ON_HOST_V6_END;
		return 0;
	case L7_ON_HOST:
		if (!h->last || h->last == '.') /* empty, or another spelling of the name */
			return l7_stop(h, L7_REASON_SYNTAX);
		/* fall through */
	case L7_ON_HOST_V6_END:
		if (c == ':') {
			h->off = off + n + 1;
			h->state = L7_ON_PORT;
			h->last = 0;
			return 0;
		}
		h->host_len = off + n - h->host_off;
		break;
	case L7_ON_PORT:
		if (!h->last || h->last > 5)
			return l7_stop(h, L7_REASON_SYNTAX);
		h->host_len = off + n - h->host_off;
		break;
	default: /* L7_ON_LENGTH: 0, or no leading zero */
		if (!h->last || h->content_length >> 53)
			return l7_stop(h, L7_REASON_SYNTAX);
		if (h->last > 1) {
			u8 *first = d + ((off + n - h->last) & L7_OFF_MASK);

			if (first + 1 > e || *first == '0')
				return l7_stop(h, L7_REASON_SYNTAX);
		}
	}
	return l7_end_line(p, off, w, n);
}

static long l7_header_step(u32 i, void *arg)
{
	struct l7_parser *p = arg;
	struct l7_head *h = p->h;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v), *q;
	u32 off = h->off & L7_OFF_MASK, state = h->state, dfa, n, k;
	u64 w, stop;

	if (off >= L7_MAX_HEAD)
		return l7_stop(h, L7_REASON_HEAD_TOO_LARGE);
	if (state > L7_ON_SKIPPED)
		return l7_value_step(p);
	if (state == L7_ON_SKIPPED)
		goto skip;
	dfa = h->dfa;
	if (state == L7_ON_LINE) {
		q = d + off;
		if (q + 1 > e)
			return l7_cut_short(h);
		if (q[0] == '\r') {
			if (q + 2 > e)
				return l7_cut_short(h);
			if (q[1] != '\n')
				return l7_stop(h, L7_REASON_SYNTAX);
			h->head_len = off + 2;
			return l7_stop(h, h->head_len > L7_MAX_HEAD ? L7_REASON_HEAD_TOO_LARGE : 0);
		}
		if (++h->headers > L7_MAX_HEADERS)
			return l7_stop(h, L7_REASON_HEAD_TOO_LARGE);
		h->line = off;
		h->edit = 0;
		dfa = h->flags & L7_HEAD_RESPONSE ? L7_RESPONSE_HEADER_DFA : L7_HEADER_DFA;
	}
	w = l7_load(p->v, off);
	stop = ~(l7_letters(w) | l7_digits(w) | l7_equal(w, '-') | l7_equal(w, '_')) & L7_HIGH;
	n = stop ? l7_first(stop) : 8;
	if (dfa)
		dfa = l7_dfa_run(p->cells, dfa, w, n);
	off += n;
	if (!stop) {
		h->off = off;
		h->dfa = dfa;
		h->state = L7_ON_NAME;
		return 0;
	}
	q = d + off;
	if (q + 1 > e)
		return l7_cut_short(h);
	if (q[0] != ':' || off == h->line)
		return l7_stop(h, L7_REASON_SYNTAX);
	if (q + 2 > e)
		return l7_cut_short(h);
	off += q[1] == ' ' ? 2 : 1;
	h->off = off;
	k = dfa ? l7_dfa_output(p->cells, dfa) : 0;
	if (k)
		return l7_value_starts(p, k);
	h->state = L7_ON_SKIPPED;
skip:
	q = d + off;
	if (q + 32 <= e) {
		stop = l7_controls(l7_word(q));
		if (!stop) {
			off += 8;
			stop = l7_controls(l7_word(q + 8));
			if (!stop) {
				off += 8;
				stop = l7_controls(l7_word(q + 16));
				if (!stop) {
					off += 8;
					stop = l7_controls(l7_word(q + 24));
				}
			}
		}
	} else {
		stop = l7_controls(l7_load(p->v, off));
	}
	if (!stop) {
		h->off = off + 8;
		return 0;
	}
	n = l7_first(stop);
	q = d + ((off + n) & L7_OFF_MASK);
	if (q + 1 > e)
		return l7_cut_short(h);
	if (*q == '\t') {
		h->off = off + n + 1;
		return 0;
	}
	return l7_end_line(p, off, 0, n);
}

/* ---- query ---- */

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

/* ---- heads ---- */

static __always_inline void l7_start(struct l7_head *h, u32 len, u32 flags)
{
	for (u32 i = 0; i < L7_N_BITS && i < L7_MAX_BITS; i++)
		h->bits[i] = 0;
	h->content_length = 0;
	h->edits_seen = 0;
	h->slots_seen = 0;
	h->flags = flags;
	h->head_len = 0;
	h->line_len = 0;
	h->method_len = 0;
	h->path_off = 0;
	h->path_len = 0;
	h->query_off = 0;
	h->query_len = 0;
	h->host_off = 0;
	h->host_len = 0;
	h->status = 0;
	h->headers = 0;
	h->edit = 0;
	h->last = 0;
	h->limit = len;
	h->connection.off = 0;
	h->connection.len = 0;
}

/* Runs a step over the rest of a part of the head; a step ends it through l7_stop(). */
#define L7_RUN(n, step, p, h) ((h)->reason = L7_REASON_HEAD_TOO_LARGE, l7_loop((n), (step), (p), 0), (h)->reason)

static u32 l7_parse_request(struct l7_view *v, u32 len, struct l7_head *h)
{
	struct l7_parser p = { .v = v, .h = h, .cells = l7_cells() };
	u8 *q, *e;
	u32 off;
	u64 w;

	l7_start(h, len, 0);
	if (!p.cells)
		return h->reason = L7_REASON_NO_POLICY;
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
	if (L7_RUN(2 * L7_MAX_HEAD, l7_target_step, &p, h))
		return h->reason;
	off = h->off;
	q = (u8 *)VIEW_BEGIN(v) + (off & L7_OFF_MASK);
	e = VIEW_END(v);
	w = l7_load(v, off);
	if (q + 10 > e) {
		if (!l7_may_become(w, L7_HTTP_1_1) || (q + 9 <= e && q[8] != '\r'))
			return h->reason = L7_REASON_SYNTAX;
		l7_cut_short(h);
		return h->reason;
	}
	if (w != L7_HTTP_1_1 || q[8] != '\r' || q[9] != '\n')
		return h->reason = L7_REASON_SYNTAX;
	h->line_len = off + 10;
	h->off = off + 10;
	h->state = L7_ON_LINE;
	if (L7_RUN(2 * L7_MAX_HEAD, l7_header_step, &p, h))
		return h->reason;
	if (!(h->flags & L7_HEAD_HAS_HOST))
		return h->reason = L7_REASON_SYNTAX;
	if (h->content_length && h->flags & L7_HEAD_NO_BODY)
		return h->reason = L7_REASON_BODY_UNEXPECTED;
	if (L7_QUERY_DFA && h->query_len) {
		h->off = h->query_off + 1;
		h->state = L7_ON_QUERY_NAME;
		h->dfa = L7_QUERY_DFA;
		return L7_RUN(2 * L7_MAX_HEAD, l7_query_step, &p, h);
	}
	return 0;
}

static u32 l7_parse_response(struct l7_view *v, u32 len, struct l7_head *h, u32 is_head)
{
	struct l7_parser p = { .v = v, .h = h, .cells = l7_cells() };
	u8 *q = VIEW_BEGIN(v), *e = VIEW_END(v);
	u32 empty;

	l7_start(h, len, L7_HEAD_RESPONSE | (is_head ? L7_HEAD_IS_HEAD : 0));
	if (!p.cells)
		return h->reason = L7_REASON_NO_POLICY;
	if (q + 13 > e) {
		if (!l7_may_become(l7_load(v, 0), L7_HTTP_1_1))
			return h->reason = L7_REASON_SYNTAX;
		l7_cut_short(h);
		return h->reason;
	}
	if (l7_word(q) != L7_HTTP_1_1 || q[8] != ' ' || q[12] != ' ')
		return h->reason = L7_REASON_SYNTAX;
	if (q[9] < '1' || q[9] > '5' || q[10] < '0' || q[10] > '9' || q[11] < '0' || q[11] > '9')
		return h->reason = L7_REASON_SYNTAX;
	h->status = (q[9] - '0') * 100 + (q[10] - '0') * 10 + (q[11] - '0');
	h->off = 13;
	h->state = L7_ON_SKIPPED; /* the reason phrase */
	if (L7_RUN(2 * L7_MAX_HEAD, l7_header_step, &p, h))
		return h->reason;
	if (h->status < 200)
		return h->reason = L7_REASON_ADOPTED_RESPONSE;
	empty = is_head || h->status == 204 || h->status == 304;
	if (h->flags & L7_HEAD_CHUNKED && h->flags & L7_HEAD_HAS_LENGTH)
		return h->reason = L7_REASON_TRANSFER_ENCODING;
	if (!(h->flags & (L7_HEAD_CHUNKED | L7_HEAD_HAS_LENGTH)) && !empty)
		return h->reason = L7_REASON_ADOPTED_RESPONSE;
	if (h->status == 204 && !is_head && (h->flags & L7_HEAD_CHUNKED || h->content_length))
		return h->reason = L7_REASON_SYNTAX;
	if (empty) {
		h->flags = (h->flags & ~L7_HEAD_CHUNKED) | L7_HEAD_NO_BODY;
		h->content_length = 0;
	}
	return 0;
}

#endif
