/* SPDX-License-Identifier: GPL-2.0 */
/* One policy version: the program that the stub in base.bpf.c tail-calls. */
#define L7_SK_MSG 1
#include "abi.h"
#include "helpers.h"
#include "base_maps.h"
#include "client.h"
#include "server.h"

char LICENSE[] SEC("license") = "GPL";

SEC("sk_msg")
int msg(struct sk_msg_md *m)
{
	struct bpf_sock *sk = m->sk;
	struct l7_sock_state *st;
	struct l7_scratch *x;

	st = sk ? bpf_sk_storage_get(&sock_storage, sk, 0, 0) : 0;
	if (!st)
		return SK_PASS; /* not a managed socket, or not one any more */
	if (st->kind != L7_SOCK_KIND_CLIENT && st->kind != L7_SOCK_KIND_SERVER)
		return SK_PASS;
	/* The kernel keeps both from the previous message: a shorter one would then wait for ever. */
	bpf_msg_cork_bytes(m, 0);
	bpf_msg_apply_bytes(m, 0);
	st->redirected = st->tail;
	st->tail = 0;
	x = bpf_sk_storage_get(&scratch, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!x)
		return l7_undecided(m, st, L7_REASON_NO_MEMORY);
	if (st->kind == L7_SOCK_KIND_SERVER)
		return l7_server(m, st, x);
	return l7_client(m, st, x);
}
