/* SPDX-License-Identifier: GPL-2.0 */
/* Header lines of a head: which ones matter, and what their values say (RFC 9110 5, RFC 9112 5). */
#ifndef L7_HEADER_LINE_H
#define L7_HEADER_LINE_H

#include "parser.h"

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

#define L7_CHUNKED_CR 0x0d64656b6e756863ULL
#define L7_CLOSE 0x0a0d65736f6c63ULL /* close CR LF: 7 bytes */
#define L7_FOLD_CLOSE 0x2020202020ULL /* makes its letters small */
#define L7_KEEP_ALI 0x696c612d7065656bULL
#define L7_FOLD_KEEP 0x2020200020202020ULL

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
	w = l7_load(p->v, VIEW_BEGIN(p->v), e, off);
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
	if ((w | L7_FOLD_KEEP) != L7_KEEP_ALI || (q[8] | 0x20) != 'v' || (q[9] | 0x20) != 'e' || q[10] != '\r')
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
		return l7_may_become(l7_load(p->v, VIEW_BEGIN(p->v), e, off), L7_CHUNKED_CR) ? l7_cut_short(h) : l7_stop(h, L7_REASON_TRANSFER_ENCODING);
	if (l7_word(q) != L7_CHUNKED_CR)
		return l7_stop(h, L7_REASON_TRANSFER_ENCODING);
	h->flags |= L7_HEAD_CHUNKED;
	return l7_end_line(p, off, 0, 7);
}

/* The name of header `index` has been read; its value begins at h->off. Decides how that is read. */
L7_GLOBAL int l7_value_starts(L7_CTX *c, struct l7_head *h, u32 index)
{
	struct l7_view v = L7_VIEW_OF(c);
	struct l7_parser made = { .v = &v, .h = h, .cells = l7_cells() }, *p = &made;
	struct l7_header_entry *t;
	u32 slot, off;
	u8 *e, *q;

	if (!h)
		return 1;
	off = h->off;
	e = VIEW_END(p->v);
	q = (u8 *)VIEW_BEGIN(p->v) + (off & L7_OFF_MASK);
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
L7_GLOBAL int l7_value_step(L7_CTX *ctx, struct l7_head *h)
{
	struct l7_view v = L7_VIEW_OF(ctx);
	struct l7_parser made = { .v = &v, .h = h, .cells = l7_cells() }, *p = &made;
	u8 *d = VIEW_BEGIN(p->v), *e = VIEW_END(p->v), c;
	u32 off, n, i;
	u64 w, stop;

	if (!h || !p->cells)
		return 1;
	off = h->off & L7_OFF_MASK;
	w = l7_load(p->v, d, e, off);
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
		h->dfa = l7_dfa_run(h->dfa, w, n);
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
		return l7_zero_or_one(l7_value_step(L7_CTX_OF(p->v), h));
	if (state == L7_ON_SKIPPED)
		goto skip;
	dfa = h->dfa;
	if (state == L7_ON_LINE) {
		q = d + off;
		if (!h->headers)
			h->line_len = off;
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
	for (k = 0; k < 3; k++) {
		w = l7_load(p->v, d, e, off);
		stop = ~(l7_letters(w) | l7_digits(w) | l7_equal(w, '-') | l7_equal(w, '_')) & L7_HIGH;
		n = stop ? l7_first(stop) : 8;
		if (dfa && n)
			dfa = l7_dfa_next(p->cells, dfa, w); /* where most names end to matter, without a call */
		if (dfa && n > 1)
			dfa = l7_dfa_run(dfa, w >> 8, n - 1);
		off += n;
		if (stop)
			break;
	}
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
		return l7_zero_or_one(l7_value_starts(L7_CTX_OF(p->v), h, k));
	h->state = L7_ON_SKIPPED;
skip:
	q = d + off;
	if (q + 32 <= e) {
		stop = l7_suspects(l7_word(q));
		if (!stop) {
			off += 8;
			stop = l7_suspects(l7_word(q + 8));
			if (!stop) {
				off += 8;
				stop = l7_suspects(l7_word(q + 16));
				if (!stop) {
					off += 8;
					stop = l7_suspects(l7_word(q + 24));
				}
			}
		}
	} else {
		stop = l7_suspects(l7_load(p->v, d, e, off));
	}
	if (!stop) {
		h->off = off + 8;
		return 0;
	}
	off = (off + l7_first(stop)) & L7_OFF_MASK;
	q = d + off;
	if (q + 2 <= e && q[0] == '\r' && q[1] == '\n') {
		h->off = off + 2;
		h->state = L7_ON_LINE;
		l7_keep_line(h, off + 2);
		return 0;
	}
	if (q + 1 > e)
		return l7_cut_short(h);
	if (*q == '\t' || (*q >= ' ' && *q != 0x7f)) {
		h->off = off + 1;
		return 0;
	}
	return l7_end_line(p, off, 0, 0);
}

/* All lines from h->off on, to the empty one. 0 or a reason. */
L7_GLOBAL u32 l7_header_lines(L7_CTX *c, struct l7_head *h)
{
	struct l7_view v = L7_VIEW_OF(c);
	struct l7_parser p = { .v = &v, .h = h, .cells = l7_cells() };

	if (!h || !p.cells)
		return L7_REASON_NO_POLICY;
	h->reason = L7_REASON_HEAD_TOO_LARGE;
	l7_loop(2 * L7_MAX_HEAD, l7_header_step, &p, 0);
	return h->reason;
}

#endif
