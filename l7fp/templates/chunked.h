/* SPDX-License-Identifier: GPL-2.0 */
/* Where a chunked body ends (RFC 9112 7.1), over any number of messages. Strict: what two implementations could
 * read differently is an error. Data is stepped over, not read; only the lines between are pulled.
 */
#ifndef L7_CHUNKED_H
#define L7_CHUNKED_H

#include "head.h"

#define L7_MAX_CHUNK_DIGITS 15
#define L7_MAX_CHUNK_EXTENSION 1024
#define L7_MAX_TRAILERS 4096

enum l7_chunk_state {
	L7_CHUNK_SIZE, /* in the digits */
	L7_CHUNK_EXTENSION,
	L7_CHUNK_SIZE_LF,
	L7_CHUNK_DATA,
	L7_CHUNK_DATA_CR,
	L7_CHUNK_DATA_LF,
	L7_CHUNK_TRAILER_START, /* at a line of the trailers */
	L7_CHUNK_TRAILER,
	L7_CHUNK_TRAILER_LF,
	L7_CHUNK_END_LF,
	L7_CHUNK_DONE,
	L7_CHUNK_ERROR,
};

struct l7_chunk_run {
	struct l7_view *v;
	struct l7_chunks *k;
};

/* The state after byte c; k->left and k->digits go along. */
static __always_inline u32 l7_chunk_next(struct l7_chunks *k, u8 c)
{
	u8 letter = c | 0x20;
	u32 digit;

	switch (k->state) {
	case L7_CHUNK_SIZE:
		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (letter >= 'a' && letter <= 'f')
			digit = letter - 'a' + 10;
		else if (k->digits && (c == '\r' || c == ';')) {
			k->digits = 0;
			return c == ';' ? L7_CHUNK_EXTENSION : L7_CHUNK_SIZE_LF;
		} else
			return L7_CHUNK_ERROR;
		k->left = k->left << 4 | digit;
		return ++k->digits > L7_MAX_CHUNK_DIGITS ? L7_CHUNK_ERROR : L7_CHUNK_SIZE;
	case L7_CHUNK_EXTENSION:
		if (c == '\r')
			return L7_CHUNK_SIZE_LF;
		if (++k->digits > L7_MAX_CHUNK_EXTENSION || (c < 0x20 && c != '\t') || c == 0x7f)
			return L7_CHUNK_ERROR;
		return L7_CHUNK_EXTENSION;
	case L7_CHUNK_SIZE_LF:
		k->digits = 0;
		return c != '\n' ? L7_CHUNK_ERROR : k->left ? L7_CHUNK_DATA : L7_CHUNK_TRAILER_START;
	case L7_CHUNK_DATA_CR:
		return c == '\r' ? L7_CHUNK_DATA_LF : L7_CHUNK_ERROR;
	case L7_CHUNK_DATA_LF:
		return c == '\n' ? L7_CHUNK_SIZE : L7_CHUNK_ERROR;
	case L7_CHUNK_TRAILER_START:
		if (c == '\r')
			return L7_CHUNK_END_LF;
		if (c <= ' ' || c == ':')
			return L7_CHUNK_ERROR;
		/* fall through */
	case L7_CHUNK_TRAILER:
		if (c == '\r')
			return L7_CHUNK_TRAILER_LF;
		if (++k->digits > L7_MAX_TRAILERS || (c < 0x20 && c != '\t') || c == 0x7f)
			return L7_CHUNK_ERROR;
		return L7_CHUNK_TRAILER;
	case L7_CHUNK_TRAILER_LF:
		return c == '\n' ? L7_CHUNK_TRAILER_START : L7_CHUNK_ERROR;
	case L7_CHUNK_END_LF:
		return c == '\n' ? L7_CHUNK_DONE : L7_CHUNK_ERROR;
	}
	return L7_CHUNK_ERROR;
}

static long l7_chunk_step(u32 i, void *arg)
{
	struct l7_chunk_run *x = arg;
	struct l7_chunks *k = x->k;
	u8 *q, *e;
	u32 off = k->off;

	if (k->state == L7_CHUNK_DATA) {
		if (k->left >= k->len - off) {
			k->left -= k->len - off;
			k->off = k->len;
			if (!k->left)
				k->state = L7_CHUNK_DATA_CR;
			return 1;
		}
		off += k->left;
		k->left = 0;
		k->state = L7_CHUNK_DATA_CR;
	}
	if (off >= k->len)
		return 1;
	if (off >= k->window_end || off < k->window) {
		k->window = off;
		k->window_end = k->len - off > 64 ? off + 64 : k->len;
		if (l7_pull(x->v, k->window, k->window_end)) {
			k->state = L7_CHUNK_ERROR;
			return 1;
		}
	}
	q = (u8 *)VIEW_BEGIN(x->v) + ((off - k->window) & 63);
	e = VIEW_END(x->v);
	if (q + 1 > e) {
		k->state = L7_CHUNK_ERROR;
		return 1;
	}
	k->off = off + 1;
	k->state = l7_chunk_next(k, *q);
	return k->state >= L7_CHUNK_DONE;
}

static u32 l7_chunked(struct l7_view *v, u32 off, u32 len, struct l7_chunks *k)
{
	struct l7_chunk_run x = { .v = v, .k = k };

	k->off = off;
	k->len = len;
	k->window = 0;
	k->window_end = 0;
	if (off > len || k->state >= L7_CHUNK_DONE)
		return L7_CHUNKED_ERROR;
	l7_loop(1 << 20, l7_chunk_step, &x, 0);
	k->end = k->off;
	if (k->state == L7_CHUNK_DONE)
		return L7_CHUNKED_DONE;
	/* a message that was not read to its end was cut by the step limit */
	return k->state == L7_CHUNK_ERROR || k->off != len ? L7_CHUNKED_ERROR : L7_CHUNKED_MORE;
}

#endif
