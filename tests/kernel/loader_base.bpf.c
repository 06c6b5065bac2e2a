/* SPDX-License-Identifier: GPL-2.0 */
/* A base object that does next to nothing: real maps, and hooks whose effect a test can see. */
#include "abi.h"
#include "helpers.h"
#include "base_maps.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} policy SEC(".maps");

SEC("sk_msg")
int entry(struct sk_msg_md *m)
{
	bpf_tail_call(m, &policy, 0);
	l7_count(L7_REASON_NO_POLICY);
	/* a reference to the sockhash, as the real one has: socket -> program -> map -> socket */
	if (m->size == 0)
		return bpf_msg_redirect_hash(m, &sockhash, &(u64){ 0 }, 0);
	return SK_PASS;
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *s)
{
	u64 key = s->local_port;

	if (s->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		bpf_sock_hash_update(s, &sockhash, &key, BPF_ANY);
	return 1;
}

/* counts connects, and refuses those of cgroups that are no workloads' */
SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *a)
{
	struct l7_addr_key key = { .ip = { 0, 0, bpf_htonl(0xffff), a->user_ip4 }, .port = bpf_ntohs(a->user_port) };
	u64 id = bpf_get_current_cgroup_id();

	if (!bpf_map_lookup_elem(&captured, &key))
		return 1;
	l7_count(bpf_map_lookup_elem(&workload_cgroups, &id) ? L7_REASON_CAPTURED : L7_REASON_IDENTITY);
	return bpf_map_lookup_elem(&listeners, &id) ? 0 : 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *a)
{
	return 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *a)
{
	return 1;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *a)
{
	return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *a)
{
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *a)
{
	return 1;
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *c)
{
	return 1;
}

SEC("sk_lookup")
int backstop(struct bpf_sk_lookup *c)
{
	struct l7_addr_key key = { .ip = { 0, 0, bpf_htonl(0xffff), c->local_ip4 }, .port = c->local_port };

	return bpf_map_lookup_elem(&protected, &key) ? SK_DROP : SK_PASS;
}

static long l7_test_event(u32 i, void *unused)
{
	struct l7_event e = { .type = L7_EVENT_TYPE_REQUEST, .slot = i };

	return bpf_ringbuf_output(&events, &e, sizeof(e), 0) != 0;
}

/* SWEEP: as many events as `arg` says. Anything else: exchange the slot's state. */
SEC("syscall")
int ctl(struct l7_ctl *c)
{
	struct l7_slot *s = l7_slot(c->id);

	if (c->op == L7_CTL_OP_SWEEP) {
		c->result = bpf_loop(c->arg, l7_test_event, 0, 0);
		return 0;
	}
	if (!s)
		return 0;
	c->state = s->state;
	s->state = c->arg;
	c->result = 0;
	return 0;
}
