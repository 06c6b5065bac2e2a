/* SPDX-License-Identifier: GPL-2.0 */
/* Changes to a parsed head, from its end to its beginning so that offsets ahead stay true: new lines at the end,
 * header lines out, Host value, path. Bytes come from the policy's `blob`.
 */
#ifndef L7_EDIT_H
#define L7_EDIT_H

#include "head.h"
#include "tables.h"

#ifdef L7_HOST
#define L7_STORE(q, w) memcpy((q), &(u64){ w }, 8)
#define L7_FETCH(q) l7_word(q)
#else
#define L7_STORE(q, w) (*(u64 *)(q) = (w))
#define L7_FETCH(q) (*(const u64 *)(q))
#endif

/* n bytes at `from` (of the blob, or of the readable message) -> byte `to` of the readable message */
struct l7_copy {
	struct l7_view *v;
	const u8 *blob;
	u32 from, to, n, bad;
};

/* At least 8 bytes: the last word overlaps the one before. */
static long l7_copy_const_words(u32 i, void *arg)
{
	struct l7_copy *c = arg;
	u8 *q, *e = VIEW_END(c->v);
	u32 at = i * 8, last = c->n - 8, from;

	if (at >= c->n)
		return 1;
	if (at > last)
		at = last;
	q = (u8 *)VIEW_BEGIN(c->v) + ((c->to + at) & L7_OFF_MASK);
	from = (c->from + at) & L7_BLOB_MASK;
	if (from > L7_BLOB_MASK - 7 || q + 8 > e) {
		c->bad = 1;
		return 1;
	}
	L7_STORE(q, L7_FETCH(c->blob + from));
	return 0;
}

static long l7_copy_const_bytes(u32 i, void *arg)
{
	struct l7_copy *c = arg;
	u8 *q = (u8 *)VIEW_BEGIN(c->v) + ((c->to + i) & L7_OFF_MASK), *e = VIEW_END(c->v);

	if (i >= c->n)
		return 1;
	if (q + 1 > e) {
		c->bad = 1;
		return 1;
	}
	*q = c->blob[(c->from + i) & L7_BLOB_MASK];
	return 0;
}

/* 0, or 1 if not all could be written */
static __noinline int l7_copy_const(struct l7_view *v, u32 from, u32 to, u32 n)
{
	struct l7_copy c = { .v = v, .blob = l7_blob(), .from = from, .to = to, .n = n };

	if (!c.blob)
		return 1;
	if (n >= 8)
		l7_loop(L7_OFF_MASK, l7_copy_const_words, &c, 0);
	else
		l7_loop(8, l7_copy_const_bytes, &c, 0);
	return c.bad;
}

/* Replaces `old` bytes at `off` by `n` of the blob. Results as of l7_edit_request(). */
static __noinline int l7_splice(struct l7_view *v, u32 off, u32 old, u32 from, u32 n)
{
	int changed = 0;

	if (n > old) {
		if (l7_push(v, off, n - old))
			return -1;
		changed = 1;
	} else if (old > n) {
		if (l7_pop(v, off, old - n))
			return -1;
		changed = 1;
	}
	if (!n)
		return 0;
	if (l7_pull(v, off, off + n))
		return changed ? 1 : -1;
	return l7_copy_const(v, from, 0, n);
}

struct l7_editor {
	struct l7_view *v;
	struct l7_head *h;
	struct l7_edit *edit; /* 0: only the Connection line */
	u32 changed;
	int result;
};

/* Outcome of one change of several. */
static __always_inline long l7_edited(struct l7_editor *x, int result)
{
	if (result)
		x->result = result > 0 || x->changed ? 1 : -1;
	x->changed = 1;
	return result != 0;
}

/* h->off, h->last: place and length of the change to be made, as long as that is not later than h->limit. In map
 * memory: in registers, every comparison below would be two cases for the verifier to follow. */
static __always_inline int l7_later(struct l7_head *h, u32 off, u32 len)
{
	if (off <= h->off || off >= h->limit)
		return 0;
	h->off = off;
	h->last = len;
	return 1;
}

/* The last of the changes to header lines that are still to do. */
static long l7_lines_step(u32 i, void *arg)
{
	struct l7_editor *x = arg;
	struct l7_head *h = x->h;
	struct l7_edit *edit = x->edit;
	u32 from = 0, n = 0;

	h->off = 0;
	if (edit) {
		for (u32 k = 0; k < L7_MAX_REMOVES; k++) {
			u32 place = edit->remove[k] & (L7_MAX_PLACES - 1);

			if (k < edit->remove_count && h->edits_seen & 1ULL << place)
				l7_later(h, h->places[place].off, h->places[place].len);
		}
		if (edit->host_len && l7_later(h, h->host_off, h->host_len)) {
			from = edit->host_off;
			n = edit->host_len;
		}
	}
	if (l7_later(h, h->connection.off, h->connection.len))
		n = 0;
	if (!h->off)
		return 1;
	h->limit = h->off;
	return l7_edited(x, l7_splice(x->v, h->off, h->last, from, n));
}

static __always_inline int l7_edit_head(struct l7_view *v, struct l7_head *h, struct l7_edit *edit)
{
	struct l7_editor x = { .v = v, .h = h, .edit = edit };
	u32 strip;

	/* behind the sender's lines: the values of one header are read in order */
	if (edit && edit->insert_len &&
	    l7_edited(&x, l7_splice(v, h->head_len - 2, 0, edit->insert_off, edit->insert_len)))
		return x.result;
	h->limit = L7_OFF_MASK;
	l7_loop(L7_MAX_REMOVES + 3, l7_lines_step, &x, 0);
	if (x.result || !edit)
		return x.result;
	if (edit->path_op == L7_PATH_OP_KEEP || !h->path_off)
		return 0;
	strip = edit->path_op == L7_PATH_OP_REPLACE_ALL ? h->path_len : edit->path_strip;
	l7_edited(&x, l7_splice(v, h->path_off, strip, edit->path_off, edit->path_len));
	return x.result;
}

static int l7_edit_request(struct l7_view *v, struct l7_head *h, u32 edit)
{
	struct l7_edit *t = l7_edit(edit);

	if (!t || (t->path_op == L7_PATH_OP_REPLACE_PREFIX && t->path_strip > h->path_len))
		return -1;
	return l7_edit_head(v, h, t);
}

static int l7_edit_response(struct l7_view *v, struct l7_head *h, u32 edit)
{
	struct l7_edit *t = 0;

	if (edit != L7_NONE) {
		t = l7_edit(edit);
		if (!t)
			return -1;
	}
	return l7_edit_head(v, h, t);
}

#endif
