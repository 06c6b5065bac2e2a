/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the head parser share. */
#ifndef L7_PARSER_H
#define L7_PARSER_H

#include "head.h"
#include "swar.h"
#include "tables.h"
#include "dfa.h"

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
L7_GLOBAL u32 l7_dfa_run(u32 state, u64 w, u32 n)
{
	const u64 *cells = l7_cells();

	if (!cells)
		return 0;
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

#endif
