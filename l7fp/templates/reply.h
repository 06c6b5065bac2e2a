/* SPDX-License-Identifier: GPL-2.0 */
/* Replies made in the kernel: the client's own message becomes the answer. */
#ifndef L7_REPLY_H
#define L7_REPLY_H

#include "edit.h"

struct l7_replier {
	struct l7_view *v;
	struct l7_head *h;
	struct l7_reply *reply;
	u32 count; /* parts */
	u32 size; /* bytes so far */
	u32 source; /* where the request begins, behind the room for the reply */
	u32 copies; /* parts of the request are in it */
	u32 bad;
};

/* Where part `t` comes from: offset in blob or request, and length. */
static __always_inline u32 l7_part_source(struct l7_head *h, struct l7_part *t, u32 *off)
{
	switch (t->kind) {
	case L7_PART_KIND_HOST:
		*off = h->host_off;
		return h->host_len;
	case L7_PART_KIND_PATH:
		*off = h->path_off + t->off;
		return t->off < h->path_len ? h->path_len - t->off : 0;
	case L7_PART_KIND_QUERY:
		*off = h->query_off;
		return h->query_len;
	default:
		*off = t->off;
		return t->len;
	}
}

static long l7_measure_step(u32 i, void *arg)
{
	struct l7_replier *x = arg;
	struct l7_part *t;
	u32 off;

	if (i >= x->count)
		return 1;
	t = l7_part(x->reply->first + i);
	if (!t) {
		x->bad = 1;
		return 1;
	}
	x->size += l7_part_source(x->h, t, &off);
	if (t->kind != L7_PART_KIND_CONST)
		x->copies = 1;
	return 0;
}

static long l7_copy_self_words(u32 i, void *arg)
{
	struct l7_copy *c = arg;
	u8 *d = VIEW_BEGIN(c->v), *e = VIEW_END(c->v), *q, *s;
	u32 at = i * 8, last = c->n - 8;

	if (at >= c->n)
		return 1;
	if (at > last)
		at = last;
	q = d + ((c->to + at) & L7_OFF_MASK);
	s = d + ((c->from + at) & L7_OFF_MASK);
	if (q + 8 > e || s + 8 > e) {
		c->bad = 1;
		return 1;
	}
	L7_STORE(q, L7_FETCH(s));
	return 0;
}

static long l7_copy_self_bytes(u32 i, void *arg)
{
	struct l7_copy *c = arg;
	u8 *d = VIEW_BEGIN(c->v), *e = VIEW_END(c->v);
	u8 *q = d + ((c->to + i) & L7_OFF_MASK), *s = d + ((c->from + i) & L7_OFF_MASK);

	if (i >= c->n)
		return 1;
	if (q + 1 > e || s + 1 > e) {
		c->bad = 1;
		return 1;
	}
	*q = *s;
	return 0;
}

/* The same for bytes of the message itself. */
static __noinline int l7_copy_self(struct l7_view *v, u32 from, u32 to, u32 n)
{
	struct l7_copy c = { .v = v, .from = from, .to = to, .n = n };

	if (n >= 8)
		l7_loop(L7_OFF_MASK, l7_copy_self_words, &c, 0);
	else
		l7_loop(8, l7_copy_self_bytes, &c, 0);
	return c.bad;
}

static long l7_write_step(u32 i, void *arg)
{
	struct l7_replier *x = arg;
	struct l7_part *t;
	u32 off, n, bad;

	if (i >= x->count)
		return 1;
	t = l7_part(x->reply->first + i);
	if (!t) {
		x->bad = 1;
		return 1;
	}
	n = l7_part_source(x->h, t, &off);
	if (t->kind == L7_PART_KIND_CONST)
		bad = l7_copy_const(x->v, off, x->size, n);
	else
		bad = l7_copy_self(x->v, off + x->source, x->size, n);
	x->size += n;
	x->bad |= bad;
	return bad ? 1 : 0;
}

static int l7_make_reply(struct l7_view *v, struct l7_head *h, u32 reply)
{
	struct l7_replier x = { .v = v, .h = h, .reply = l7_reply(reply) };
	u32 old = l7_size(v), size, readable;

	if (!x.reply)
		return -1;
	x.count = h->flags & L7_HEAD_IS_HEAD ? x.reply->head_count : x.reply->count;
	l7_loop(L7_MAX_REPLY, l7_measure_step, &x, 0);
	size = x.size;
	if (x.bad || !size || size > L7_MAX_REPLY)
		return -1;
	readable = size;
	if (x.copies) {
		x.source = size;
		readable = size + h->head_len;
		if (l7_push(v, 0, size))
			return -1;
	} else if (size > old) {
		if (l7_push(v, 0, size - old))
			return -1;
	} else if (size < old && l7_pop(v, size, old - size)) {
		return -1;
	}
	if (l7_pull(v, 0, readable))
		return 1;
	x.size = 0;
	l7_loop(L7_MAX_REPLY, l7_write_step, &x, 0);
	if (x.bad || x.size != size)
		return 1;
	return x.copies && l7_pop(v, size, old) ? 1 : 0;
}

#endif
