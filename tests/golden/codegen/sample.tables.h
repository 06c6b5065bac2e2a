/* SPDX-License-Identifier: GPL-2.0 */
/* The tables of one policy version and how to reach them. Kernel: array maps, written by the loader before the
 * program is attached. Host library: plain arrays, set by l7_host_tables(). An accessor yields NULL out of range. */
#ifndef L7_TABLES_H
#define L7_TABLES_H

#include "abi.h"
#include "helpers.h"

#define L7_CELL_MASK 2047
#define L7_BLOB_MASK 511
#define L7_HEADER_DFA 351
#define L7_RESPONSE_HEADER_DFA 732
#define L7_QUERY_DFA 666
#define L7_METHOD_DFA 314
#define L7_HOST_BITS_DFA 0
#define L7_N_BITS 7
#define L7_HAS_AUTHZ 1
#define L7_HAS_QUERY 1
#define L7_HAS_REQUEST_EDITS 1
#define L7_HAS_RESPONSE_EDITS 1
#define L7_HAS_REPLIES 1
#define L7_HAS_SOURCE 1
#define L7_HAS_SOURCE_IP 0

struct l7_cells_value {
	u64 item[2048];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_cells_value);
} cells SEC(".maps");
static __always_inline u64 *l7_cells(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&cells, &zero);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} masks SEC(".maps");
static __always_inline u64 *l7_mask(u32 i)
{
	return bpf_map_lookup_elem(&masks, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 31);
	__type(key, u32);
	__type(value, struct l7_instr);
} code SEC(".maps");
static __always_inline struct l7_instr *l7_instr(u32 i)
{
	return bpf_map_lookup_elem(&code, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_vhost);
} vhosts SEC(".maps");
static __always_inline struct l7_vhost *l7_vhost(u32 i)
{
	return bpf_map_lookup_elem(&vhosts, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, struct l7_header_entry);
} headers SEC(".maps");
static __always_inline struct l7_header_entry *l7_header(u32 i)
{
	return bpf_map_lookup_elem(&headers, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__type(value, struct l7_header_entry);
} response_headers SEC(".maps");
static __always_inline struct l7_header_entry *l7_response_header(u32 i)
{
	return bpf_map_lookup_elem(&response_headers, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct l7_query_entry);
} queries SEC(".maps");
static __always_inline struct l7_query_entry *l7_query(u32 i)
{
	return bpf_map_lookup_elem(&queries, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, struct l7_rule);
} rules SEC(".maps");
static __always_inline struct l7_rule *l7_rule(u32 i)
{
	return bpf_map_lookup_elem(&rules, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__type(value, struct l7_dest);
} dests SEC(".maps");
static __always_inline struct l7_dest *l7_dest(u32 i)
{
	return bpf_map_lookup_elem(&dests, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct l7_cluster);
} clusters SEC(".maps");
static __always_inline struct l7_cluster *l7_cluster(u32 i)
{
	return bpf_map_lookup_elem(&clusters, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u32);
} endpoints SEC(".maps");
static __always_inline u32 *l7_endpoint(u32 i)
{
	return bpf_map_lookup_elem(&endpoints, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, u32);
	__type(value, struct l7_authz);
} authz SEC(".maps");
static __always_inline struct l7_authz *l7_authz(u32 i)
{
	return bpf_map_lookup_elem(&authz, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__type(value, struct l7_edit);
} edits SEC(".maps");
static __always_inline struct l7_edit *l7_edit(u32 i)
{
	return bpf_map_lookup_elem(&edits, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 11);
	__type(key, u32);
	__type(value, struct l7_part);
} parts SEC(".maps");
static __always_inline struct l7_part *l7_part(u32 i)
{
	return bpf_map_lookup_elem(&parts, &i);
}
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, u32);
	__type(value, struct l7_reply);
} replies SEC(".maps");
static __always_inline struct l7_reply *l7_reply(u32 i)
{
	return bpf_map_lookup_elem(&replies, &i);
}
struct l7_blob_value {
	u8 item[512];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_blob_value);
} blob SEC(".maps");
static __always_inline u8 *l7_blob(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&blob, &zero);
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_port_entry);
} ports SEC(".maps");
static __always_inline struct l7_port_entry *l7_port(u32 port)
{
	return bpf_map_lookup_elem(&ports, &port);
}

/* workload cgroup id -> bits of L7_BITS_SOURCE, filled by the loader */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u64);
} source_bits SEC(".maps");

struct l7_source_ip_key {
	u32 prefix_bits;
	u8 addr[16]; /* IPv4 as ::ffff:a.b.c.d */
};
/* address block -> bits of L7_BITS_SOURCE_IP of all blocks that contain it */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct l7_source_ip_key);
	__type(value, u64);
} source_ip SEC(".maps");

/* [3 * rule.counter + {0 forwarded, 1 replied, 2 diverted}] */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 21);
	__type(key, u32);
	__type(value, u64);
} rule_counters SEC(".maps");

#endif
