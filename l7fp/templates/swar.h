/* SPDX-License-Identifier: GPL-2.0 */
/* Eight bytes at a time. A mask has bit 7 of every byte that is in the class, and nothing else; no carry crosses
 * a byte, so masks are exact. Byte 0 of the text is the lowest byte of the word.
 */
#ifndef L7_SWAR_H
#define L7_SWAR_H

#include "env.h"

#define L7_EACH(c) (0x0101010101010101ULL * (c))
#define L7_HIGH L7_EACH(0x80)
#define L7_LOW L7_EACH(0x7f)

static __always_inline u64 l7_equal(u64 w, u8 c)
{
	u64 x = w ^ L7_EACH(c);

	return ~(((x & L7_LOW) + L7_LOW) | x) & L7_HIGH;
}

/* bytes in [first, last], both ASCII */
static __always_inline u64 l7_between(u64 w, u8 first, u8 last)
{
	u64 x = w & L7_LOW;

	return (x + L7_EACH(0x80 - first)) & ~(x + L7_EACH(0x7f - last)) & ~w & L7_HIGH;
}

static __always_inline u64 l7_letters(u64 w)
{
	return l7_between(w | L7_EACH(0x20), 'a', 'z');
}

static __always_inline u64 l7_digits(u64 w)
{
	return l7_between(w, '0', '9');
}

/* CTL of RFC 5234: below SP, and DEL */
static __always_inline u64 l7_controls(u64 w)
{
	u64 x = w & L7_LOW;

	return (~(x + L7_EACH(0x60)) | (x + L7_EACH(0x01))) & ~w & L7_HIGH;
}

/* Cheaper: all controls, and maybe bytes behind one or behind 0xff that are none. Nothing before the first
 * control, save behind 0xff. */
static __always_inline u64 l7_suspects(u64 w)
{
	return ((w - L7_EACH(0x20)) | (w + L7_EACH(0x01))) & ~w & L7_HIGH;
}

/* not VCHAR: controls, SP, DEL and everything beyond ASCII */
static __always_inline u64 l7_invisibles(u64 w)
{
	u64 x = w & L7_LOW;

	return (~(x + L7_EACH(0x5f)) | (x + L7_EACH(0x01)) | w) & L7_HIGH;
}

/* index of the first byte of a mask that is not 0 */
static __always_inline u32 l7_first(u64 mask)
{
	return ((mask & -mask) >> 7) * 0x0001020304050607ULL >> 56;
}

/* those bytes of mask `in` that come before the first byte of mask `stop`; all if `stop` is 0 */
static __always_inline u64 l7_before(u64 in, u64 stop)
{
	return in & ((stop & -stop) - 1);
}

static __always_inline u8 l7_byte(u64 w, u32 i)
{
	return w >> (8 * (i & 7));
}

/* 8 readable bytes */
static __always_inline u64 l7_word(const u8 *q)
{
#ifdef L7_HOST
	u64 w;

	memcpy(&w, q, 8);
	return w;
#else
	return *(const u64 *)q;
#endif
}

/* The last readable bytes from byte `off` on, with 0 for those that are missing. */
L7_GLOBAL u64 l7_tail_word(L7_CTX *c, u32 off)
{
	struct l7_view v = L7_VIEW_OF(c);
	const u8 *q = (const u8 *)VIEW_BEGIN(&v) + (off & L7_OFF_MASK), *e = VIEW_END(&v);
	u64 w = 0;

#pragma unroll
	for (u32 i = 0; i < 7; i++) {
		if (q + i + 1 > e)
			break;
		w |= (u64)q[i] << (8 * i);
	}
	return w;
}

/* 8 bytes from byte `off` of the window [d, e) on, which begins with the message */
static __always_inline u64 l7_load(struct l7_view *v, const u8 *d, const u8 *e, u32 off)
{
	const u8 *q = d + (off & L7_OFF_MASK);

	return q + 8 <= e ? l7_word(q) : l7_tail_word(L7_CTX_OF(v), off);
}

#endif
