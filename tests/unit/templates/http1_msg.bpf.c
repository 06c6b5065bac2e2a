/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's HTTP code where it runs in earnest: every message sent on a socket of `sockets` is parsed, and edited
 * or answered as `order` says, and goes on to the peer. */
#define L7_SK_MSG 1
#include "abi.h"
#include "helpers.h"
#include "tables.h"
#include "parse_http1.h"
#include "edit.h"
#include "reply.h"
#include "chunked.h"

char LICENSE[] SEC("license") = "GPL";

enum { REQUEST, RESPONSE, EDIT_REQUEST, EDIT_RESPONSE, REPLY, CHUNKED };

struct order {
	u32 op, arg;
	int result;
	u32 reason;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct order);
} order SEC(".maps");

struct state {
	struct l7_head head;
	struct l7_chunks chunks;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

SEC("sk_msg")
int http1_msg(struct sk_msg_md *m)
{
	struct l7_view v = { .ctx = m };
	u32 zero = 0, size = m->size, limit = size < L7_MAX_HEAD ? size : L7_MAX_HEAD;
	struct order *o = bpf_map_lookup_elem(&order, &zero);
	struct bpf_sock *sk = m->sk;
	struct state *s;

	if (!o || !sk)
		return SK_PASS;
	s = bpf_sk_storage_get(&states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return SK_PASS;
	if (o->op == CHUNKED) {
		o->result = l7_chunked(&v, 0, size, &s->chunks);
		return SK_PASS;
	}
	if (m->data_end - m->data < limit && bpf_msg_pull_data(m, 0, limit, 0)) {
		o->reason = L7_REASON_NO_MEMORY;
		return SK_PASS;
	}
	if (o->op == RESPONSE || o->op == EDIT_RESPONSE)
		o->reason = l7_parse_response(&v, size, &s->head, 0);
	else
		o->reason = l7_parse_request(&v, size, &s->head);
	if (o->reason)
		return SK_PASS;
	if (o->op == EDIT_REQUEST)
		o->result = l7_edit_request(&v, &s->head, o->arg);
	else if (o->op == EDIT_RESPONSE)
		o->result = l7_edit_response(&v, &s->head, o->arg);
	else if (o->op == REPLY)
		o->result = l7_make_reply(&v, &s->head, o->arg);
	return SK_PASS;
}
