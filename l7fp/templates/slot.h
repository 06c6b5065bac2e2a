/* SPDX-License-Identifier: GPL-2.0 */
/* Life of a slot, shared by the data path and the control program. `state` is the only word that several
 * parties write, and only by atomic operations; who moves a slot out of BUSY also puts it back.
 */
#ifndef L7_SLOT_H
#define L7_SLOT_H

#include "base_maps.h"

#define L7_SLOT_ENDED (L7_SLOT_FLAG_DEAD | L7_SLOT_FLAG_CLAIMED)
#define L7_SLOT_COMPLETE (L7_SLOT_FLAG_REQUEST_DONE | L7_SLOT_FLAG_RESPONSE_DONE)

/* 0 when the slot is in its endpoint's pool again. A failed push is counted; the slot stays idle and the
 * agent offers it again. */
static __always_inline int l7_slot_push(struct l7_slot *s, u32 id)
{
	u32 endpoint = s->endpoint;
	void *pool = bpf_map_lookup_elem(&pools, &endpoint);

	if (pool && !bpf_map_push_elem(pool, &id, 0))
		return 0;
	l7_count(L7_REASON_POOL_PUSH_LOST);
	return -1;
}

/* Ends a transaction that is complete: idle and pooled, or dead if it must not be used again. */
static __always_inline int l7_slot_finish(struct l7_slot *s, u32 id, u64 state)
{
	if (state & (L7_SLOT_ENDED | L7_SLOT_FLAG_NO_REUSE)) {
		__sync_fetch_and_or(&s->state, L7_SLOT_FLAG_DEAD);
		return -1;
	}
	if (__sync_val_compare_and_swap(&s->state, state, 0) != state)
		return -1;
	return l7_slot_push(s, id);
}

/* Marks one half of the transaction done. S may answer before the request is all sent, so whichever half
 * comes last ends it. An adopted transaction is ended by the agent. Returns the state after the change. */
static __always_inline u64 l7_slot_half(struct l7_slot *s, u32 id, u64 bit)
{
	u64 state = __sync_fetch_and_or(&s->state, bit) | bit;

	if ((state & L7_SLOT_COMPLETE) == L7_SLOT_COMPLETE && !(state & L7_SLOT_FLAG_ADOPTED))
		l7_slot_finish(s, id, state);
	return state;
}

#endif
