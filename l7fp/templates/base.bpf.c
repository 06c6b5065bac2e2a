/* SPDX-License-Identifier: GPL-2.0 */
/* The permanent half of the data plane: hooks and state that outlive every policy version. */
#include "abi.h"
#include "helpers.h"
#include "base_maps.h"
#include "capture.h"
#include "establish.h"
#include "backstop.h"
#include "control.h"
#include "divert.h"

char LICENSE[] SEC("license") = "GPL";

/* Slot 0 is the policy in force. Replacing a program attached to a sockhash would leave the sockets that are
 * already in it on the old one, so what is attached is this stub and what changes is the array. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} policy SEC(".maps");

SEC("sk_msg")
int entry(struct sk_msg_md *m)
{
	struct bpf_sock *sk = m->sk;
	struct l7_sock_state *st;

	bpf_tail_call(m, &policy, 0);
	st = sk ? bpf_sk_storage_get(&sock_storage, sk, 0, 0) : 0;
	return st ? l7_undecided(m, st, L7_REASON_NO_POLICY) : SK_PASS; /* without state: not managed, or not any more */
}
