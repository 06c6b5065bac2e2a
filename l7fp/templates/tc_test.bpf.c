/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's HTTP code behind BPF_PROG_TEST_RUN, which takes no sk_msg: for tests, never attached.
 * skb->cb in: operation, its argument (number of an edit or reply), 1 if a response answers HEAD.
 */
#define L7_TC 1
#include "abi.h"
#include "helpers.h"
#include "tables.h"
#include "parse_http1.h"
#include "match.h"
#include "edit.h"
#include "reply.h"
#include "chunked.h"

char LICENSE[] SEC("license") = "GPL";

enum {
	L7_TEST_REQUEST,
	L7_TEST_RESPONSE,
	L7_TEST_EDIT_REQUEST,
	L7_TEST_EDIT_RESPONSE,
	L7_TEST_REPLY,
	L7_TEST_CHUNKED, /* the message is a piece of a body that `chunks` tells the state of */
	L7_TEST_DECIDE,
	L7_TEST_NOTHING, /* what a run costs by itself */
};

struct l7_test {
	int result; /* as the function returned it; of a change, that of the parser if it refused */
	u32 random; /* DECIDE: in */
	struct l7_head head;
	struct l7_chunks chunks;
	struct l7_flow flow; /* DECIDE: in */
	struct l7_result decision; /* DECIDE: out */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct l7_test);
} test SEC(".maps");

SEC("tc")
int tc_test(struct __sk_buff *skb)
{
	struct l7_view v = { .ctx = skb };
	u32 zero = 0, op = skb->cb[0], arg = skb->cb[1], is_head = skb->cb[2], size = l7_size(&v);
	struct l7_test *t = bpf_map_lookup_elem(&test, &zero);

	if (!t || op >= L7_TEST_NOTHING)
		return 0;
	if (op == L7_TEST_CHUNKED) {
		t->result = l7_chunked(&v, arg, size, &t->chunks);
		return 0;
	}
	if (bpf_skb_pull_data(skb, 0))
		return 0;
	if (op == L7_TEST_RESPONSE || op == L7_TEST_EDIT_RESPONSE)
		t->result = l7_parse_response(&v, size, &t->head, is_head);
	else
		t->result = l7_parse_request(&v, size, &t->head);
	if (t->result)
		return 0;
	if (op == L7_TEST_EDIT_REQUEST)
		t->result = l7_edit_request(&v, &t->head, arg);
	else if (op == L7_TEST_EDIT_RESPONSE)
		t->result = l7_edit_response(&v, &t->head, arg);
	else if (op == L7_TEST_REPLY)
		t->result = l7_make_reply(&v, &t->head, arg);
	else if (op == L7_TEST_DECIDE)
		l7_decide(&v, &t->head, &t->flow, t->random, &t->decision);
	return 0;
}
