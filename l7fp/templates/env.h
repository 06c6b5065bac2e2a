/* SPDX-License-Identifier: GPL-2.0 */
/* Where the HTTP code runs: behind sendmsg() in the kernel (L7_SK_MSG), in a traffic-control program for
 * BPF_PROG_TEST_RUN (L7_TC), or in a test process (L7_HOST). The code above this file sees
 *
 *   VIEW_BEGIN(v), VIEW_END(v)  bytes readable now; read afresh in every function and after every call below,
 *                               since those move the message
 *   l7_size(v)                  bytes of the whole message
 *   l7_pull(v, a, b)            makes [a, b) readable and writable; VIEW_BEGIN is then byte a
 *   l7_push(v, off, n)          inserts n bytes of no particular value before byte off
 *   l7_pop(v, off, n)           removes n bytes at off
 *   l7_loop(n, fn, arg, 0)      calls fn(i, arg) for i < n until it returns 1; n is not provably 0
 *
 * and, to pass a view that has not been moved to an L7_GLOBAL function, L7_CTX_OF(v) and in there L7_VIEW_OF(c).
 *
 * Those that can fail return 0 for success and then leave the message unchanged otherwise. Of a message that
 * nobody has pulled, pushed or popped, VIEW_BEGIN is byte 0.
 */
#ifndef L7_ENV_H
#define L7_ENV_H

#include "abi.h"
#ifdef L7_HOST
#define __noinline __attribute__((noinline))
#define L7_GLOBAL static __noinline
#else
#include "helpers.h"
/* A function that the verifier checks by itself, once, for any arguments, and not again behind every path to every
 * call. It takes scalars, the context (L7_CTX) and pointers to structs, which may be NULL for all it knows; callers
 * learn nothing about what it returns. */
#define L7_GLOBAL __noinline
#endif

/* A global function's result as a callback's: the compiler knows that it is 0 or 1 and the verifier doesn't. */
static __always_inline long l7_zero_or_one(int result)
{
	asm volatile("" : "+r"(result));
	return result ? 1 : 0;
}

/* a position in a message as the verifier accepts it for pointer arithmetic */
#define L7_OFF_MASK 0x7fff

#if defined(L7_SK_MSG)

struct l7_view {
	struct sk_msg_md *ctx;
};

#define L7_CTX struct sk_msg_md
#define L7_CTX_OF(v) ((v)->ctx)
#define L7_VIEW_OF(c) { .ctx = (c) }
#define VIEW_BEGIN(v) ((u8 *)(v)->ctx->data)
#define VIEW_END(v) ((u8 *)(v)->ctx->data_end)
#define l7_loop(n, fn, arg, flags) bpf_loop((n), (fn), (arg), (flags))

static __always_inline u32 l7_size(struct l7_view *v)
{
	return v->ctx->size;
}

static __always_inline int l7_pull(struct l7_view *v, u32 a, u32 b)
{
	return bpf_msg_pull_data(v->ctx, a, b, 0);
}

static __always_inline int l7_push(struct l7_view *v, u32 off, u32 n)
{
	return bpf_msg_push_data(v->ctx, off, n, 0);
}

static __always_inline int l7_pop(struct l7_view *v, u32 off, u32 n)
{
	return bpf_msg_pop_data(v->ctx, off, n, 0);
}

#elif defined(L7_TC)

/* test_run wants an Ethernet header before the message */
#define L7_TC_HEADER 14
#define L7_TC_BASE_MASK 0x3fff /* with two offsets added, pointers stay below the verifier's 64 KB */

struct l7_view {
	struct __sk_buff *ctx;
	u32 base; /* byte of the message at VIEW_BEGIN */
};

#define L7_CTX struct __sk_buff
#define L7_CTX_OF(v) ((v)->ctx)
#define L7_VIEW_OF(c) { .ctx = (c) }
#define VIEW_BEGIN(v) ((u8 *)(long)(v)->ctx->data + L7_TC_HEADER + ((v)->base & L7_TC_BASE_MASK))
#define VIEW_END(v) ((u8 *)(long)(v)->ctx->data_end)
#define l7_loop(n, fn, arg, flags) bpf_loop((n), (fn), (arg), (flags))

static __always_inline u32 l7_size(struct l7_view *v)
{
	return v->ctx->len - L7_TC_HEADER;
}

static __always_inline int l7_pull(struct l7_view *v, u32 a, u32 b)
{
	if (a > b || b > l7_size(v) || bpf_skb_pull_data(v->ctx, b + L7_TC_HEADER))
		return -1;
	v->base = a;
	return 0;
}

struct l7_tc_move {
	struct __sk_buff *ctx;
	u32 from, to, left, down;
};

static long l7_tc_move_step(u32 i, void *arg)
{
	struct l7_tc_move *m = arg;
	u8 *d = (u8 *)(long)m->ctx->data + L7_TC_HEADER, *e = (u8 *)(long)m->ctx->data_end;
	u32 at = m->down ? i : m->left - 1 - i;
	u8 *src = d + ((m->from + at) & L7_OFF_MASK), *dst = d + ((m->to + at) & L7_OFF_MASK);

	if (i >= m->left || src + 1 > e || dst + 1 > e)
		return 1;
	*dst = *src;
	return 0;
}

static __always_inline int l7_push(struct l7_view *v, u32 off, u32 n)
{
	u32 size = l7_size(v);
	struct l7_tc_move m = { .ctx = v->ctx, .from = off, .to = off + n, .left = size - off };

	if (off > size || bpf_skb_change_tail(v->ctx, size + n + L7_TC_HEADER, 0))
		return -1;
	if (bpf_skb_pull_data(v->ctx, 0))
		return -1;
	bpf_loop(L7_OFF_MASK, l7_tc_move_step, &m, 0);
	v->base = 0;
	return 0;
}

static __always_inline int l7_pop(struct l7_view *v, u32 off, u32 n)
{
	u32 size = l7_size(v);
	struct l7_tc_move m = { .ctx = v->ctx, .from = off + n, .to = off, .left = size - off - n, .down = 1 };

	if (off + n > size || bpf_skb_pull_data(v->ctx, 0))
		return -1;
	bpf_loop(L7_OFF_MASK, l7_tc_move_step, &m, 0);
	v->base = 0;
	return bpf_skb_change_tail(v->ctx, size - n + L7_TC_HEADER, 0) ? -1 : 0;
}

#elif defined(L7_HOST)

/* `window`..`window_end` is what a pull made readable. The `fail_at`-th change fails, 0 for none. */
struct l7_view {
	u8 *buf;
	u32 len, room;
	u32 window, window_end;
	u32 changes, fail_at;
};

#define L7_CTX struct l7_view
#define L7_CTX_OF(v) (v)
#define L7_VIEW_OF(c) *(c)
#define VIEW_BEGIN(v) ((v)->buf + (v)->window)
#define VIEW_END(v) ((v)->buf + (v)->window_end)

static inline long l7_loop(u32 n, long (*fn)(u32, void *), void *arg, u64 flags)
{
	(void)flags;
	for (u32 i = 0; i < n; i++)
		if (fn(i, arg))
			return i + 1;
	return n;
}

static inline u32 l7_size(struct l7_view *v)
{
	return v->len;
}

static inline int l7_host_fails(struct l7_view *v)
{
	return ++v->changes == v->fail_at;
}

static inline int l7_pull(struct l7_view *v, u32 a, u32 b)
{
	if (l7_host_fails(v) || a >= b || b > v->len)
		return -1;
	v->window = a;
	v->window_end = b;
	return 0;
}

static inline int l7_push(struct l7_view *v, u32 off, u32 n)
{
	if (l7_host_fails(v) || off > v->len || n > v->room - v->len)
		return -1;
	memmove(v->buf + off + n, v->buf + off, v->len - off);
	memset(v->buf + off, 0xee, n);
	v->len += n;
	v->window = 0;
	v->window_end = 0; /* a pushed message is unreadable until it is pulled */
	return 0;
}

static inline int l7_pop(struct l7_view *v, u32 off, u32 n)
{
	if (l7_host_fails(v) || off > v->len || n > v->len - off)
		return -1;
	memmove(v->buf + off, v->buf + off + n, v->len - off - n);
	v->len -= n;
	v->window = 0;
	v->window_end = 0;
	return 0;
}

#else
#error "define one of L7_SK_MSG, L7_TC, L7_HOST"
#endif

#endif
