/* SPDX-License-Identifier: GPL-2.0 */
/* State that outlives a policy version. The base object creates these maps and the loader pins them; every
 * policy object declares the same ones and is given the pinned ones instead of its own.
 */
#ifndef L7_BASE_MAPS_H
#define L7_BASE_MAPS_H

#include "abi.h"
#include "helpers.h"

/* C and S sockets, by L7_SOCK_KEY. The sk_msg program is attached here. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2 * L7_MAX_CONNS);
	__type(key, u64);
	__type(value, u64);
} sockhash SEC(".maps");

#define L7_SOCK_KEY(kind, id) ((u64)(kind) << 32 | (u32)(id))

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l7_sock_state);
} sock_storage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, L7_MAX_CONNS);
	__type(key, u32);
	__type(value, struct l7_conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, L7_MAX_SLOTS);
	__type(key, u32);
	__type(value, struct l7_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, L7_MAX_ENDPOINTS);
	__type(key, u32);
	__type(value, struct l7_endpoint_state);
} endpoint_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_config);
} config SEC(".maps");

/* destinations under management: services and their endpoints */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct l7_addr_key);
	__type(value, struct l7_capture);
} captured SEC(".maps");

/* endpoints that refuse what did not come through l7fp */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, L7_MAX_ENDPOINTS);
	__type(key, struct l7_addr_key);
	__type(value, u32);
} protected SEC(".maps");

/* network namespace cookie -> the agent's listeners in it */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct l7_listener);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct l7_workload_id);
} workload_cgroups SEC(".maps");

/* connections between the active and the passive side's ESTABLISHED; LRU because a client may reset in between */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, L7_MAX_CONNS);
	__type(key, struct l7_flow_key);
	__type(value, struct l7_sock_state);
} flows SEC(".maps");

/* upstream connections of the agent that are under way, for the backstop, which can't read a netns cookie */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, L7_MAX_SLOTS);
	__type(key, struct l7_flow_key);
	__type(value, u32);
} announced SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, L7_MAX_CONNS);
	__uint(key_size, 0);
	__uint(value_size, 4);
} conn_ids SEC(".maps");

/* idle slots of each endpoint, last in first out */
struct l7_pool {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, L7_MAX_POOL);
	__uint(key_size, 0);
	__uint(value_size, 4);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, L7_MAX_ENDPOINTS);
	__uint(key_size, 4);
	__array(values, struct l7_pool);
} pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, L7_REASON_MAX);
	__type(key, u32);
	__type(value, u64);
} stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

static __always_inline void l7_count(u32 reason)
{
	u64 *n = bpf_map_lookup_elem(&stats, &reason);

	if (n)
		*n += 1;
}

static __always_inline struct l7_conn *l7_conn(u32 id)
{
	u32 i = id & (L7_MAX_CONNS - 1);
	struct l7_conn *c = bpf_map_lookup_elem(&conns, &i);

	return c && c->id == id ? c : 0;
}

static __always_inline struct l7_slot *l7_slot(u32 id)
{
	return bpf_map_lookup_elem(&slots, &id);
}

static __always_inline struct l7_config *l7_config(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/* Hands the record to the agent, or loses it: a full ring never changes a verdict. */
static __always_inline void l7_emit(struct l7_config *cfg, struct l7_event *e)
{
	if (cfg && cfg->event_mask & (1U << (e->type & 31)))
		bpf_ringbuf_output(&events, e, sizeof(*e), 0);
}

#endif
