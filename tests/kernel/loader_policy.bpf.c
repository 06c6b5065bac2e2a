/* SPDX-License-Identifier: GPL-2.0 */
/* A policy object that reports its version and lets every message pass. */
#include "abi.h"
#include "helpers.h"
#include "base_maps.h"

char LICENSE[] SEC("license") = "GPL";

#define L7_TEST_MAP(name_, type_, entries_, key_, value_) \
	struct {                                          \
		__uint(type, type_);                      \
		__uint(max_entries, entries_);            \
		__type(key, key_);                        \
		__type(value, value_);                    \
	} name_ SEC(".maps")

struct l7_blob_value {
	u8 item[64];
};
struct l7_source_ip_key {
	u32 prefix_bits;
	u8 addr[16];
};

L7_TEST_MAP(rules, BPF_MAP_TYPE_ARRAY, 1, u32, struct l7_rule);
L7_TEST_MAP(endpoints, BPF_MAP_TYPE_ARRAY, 1, u32, u32);
L7_TEST_MAP(blob, BPF_MAP_TYPE_ARRAY, 1, u32, struct l7_blob_value);
L7_TEST_MAP(version, BPF_MAP_TYPE_ARRAY, 1, u32, u32);
L7_TEST_MAP(ports, BPF_MAP_TYPE_HASH, 64, u32, struct l7_port_entry);
L7_TEST_MAP(source_bits, BPF_MAP_TYPE_HASH, 64, u64, u64);
L7_TEST_MAP(rule_counters, BPF_MAP_TYPE_PERCPU_ARRAY, 6, u32, u64);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 64);
	__type(key, struct l7_source_ip_key);
	__type(value, u64);
} source_ip SEC(".maps");

static __always_inline u64 l7_test_ip_bits(void)
{
	struct l7_source_ip_key key = { .prefix_bits = 128 };
	u64 *bits;

	key.addr[10] = key.addr[11] = 0xff;
	key.addr[12] = 127;
	key.addr[15] = 1;
	bits = bpf_map_lookup_elem(&source_ip, &key);
	return bits ? *bits : 0;
}

/* reports what it found in each table, for a connection to port 80 */
SEC("sk_msg")
int msg(struct sk_msg_md *m)
{
	u32 zero = 0, one = 1, port = 80, counter = 3;
	u32 *number = bpf_map_lookup_elem(&version, &zero);
	u32 *endpoint = bpf_map_lookup_elem(&endpoints, &one);
	struct l7_rule *rule = bpf_map_lookup_elem(&rules, &one);
	struct l7_blob_value *bytes = bpf_map_lookup_elem(&blob, &zero);
	struct l7_port_entry *entry_of = bpf_map_lookup_elem(&ports, &port);
	u64 cgroup = bpf_get_current_cgroup_id();
	u64 *source = bpf_map_lookup_elem(&source_bits, &cgroup);
	u64 *count = bpf_map_lookup_elem(&rule_counters, &counter);
	struct l7_event e = { .type = L7_EVENT_TYPE_REQUEST };

	if (number)
		e.version = *number;
	if (endpoint)
		e.endpoint = *endpoint;
	if (rule)
		e.rule = rule->counter;
	if (bytes)
		e.status = bytes->item[0];
	if (entry_of)
		e.reason = entry_of->host_dfa;
	if (source)
		e.bytes = *source;
	e.latency_ns = l7_test_ip_bits();
	if (count)
		*count += 1;
	bpf_ringbuf_output(&events, &e, sizeof(e), 0);
	return SK_PASS;
}
