/* SPDX-License-Identifier: GPL-2.0 */
/* The automata of a policy version: all of them share one double array, `cells`.
 *
 * A state is the index of its header cell, 0 is dead. Header cell: default next state, L7_DFA_HEADER and
 * L7_DFA_SINK in the low half, output in the high half. Byte b leaves state s over cells[s + 1 + b] if that
 * cell's low half is s (its high half is the next state), else over the default. Upper and lower case are
 * both in the table where case does not count. The table's length is a power of two, so an index is masked,
 * never tested.
 */
#ifndef L7_DFA_H
#define L7_DFA_H

#include "abi.h"

/* State after byte `b`. Dead (0) stays dead. */
static __always_inline u32 l7_dfa_next(const u64 *cells, u32 state, u8 b)
{
	u64 cell = cells[(state + 1 + b) & L7_CELL_MASK];

	if ((u32)cell == state)
		return cell >> 32;
	return (u32)cells[state & L7_CELL_MASK] & ~(L7_DFA_HEADER | L7_DFA_SINK);
}

/* What the automaton says if the text ends in `state`; 0 is nothing. */
static __always_inline u32 l7_dfa_output(const u64 *cells, u32 state)
{
	return cells[state & L7_CELL_MASK] >> 32;
}

/* Whether no further byte can change the output, so that the rest need not be read. */
static __always_inline int l7_dfa_is_sink(const u64 *cells, u32 state)
{
	return ((u32)cells[state & L7_CELL_MASK] & L7_DFA_SINK) != 0;
}

#endif
