/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets come and go: sockops gives C its connection id and S its slot, puts both into the sockhash, and takes
 * C out of it when it closes or disconnects.
 *
 * A1 and S learn who their peer is without a race: the active side writes `flows` before the handshake's last
 * segment leaves, the passive side reads it when that segment arrives.
 */
#ifndef L7_ESTABLISH_H
#define L7_ESTABLISH_H

#include "capture.h"

#define L7_TCP_FIN_WAIT1 4
#define L7_TCP_FIN_WAIT2 5
#define L7_TCP_CLOSING 11

#define L7_OPS(field) __builtin_offsetof(struct bpf_sock_ops, field)

/* The connection as its active side sees it; `passive` when the caller is the other side. */
static __always_inline void l7_flow_of(struct bpf_sock_ops *s, struct l7_flow_key *f, int passive)
{
	u32 l[4] = { 0, 0, L7_V4_MAPPED, 0 }, r[4] = { 0, 0, L7_V4_MAPPED, 0 };
	u32 l_port = L7_CTX_U32(s, L7_OPS(local_port)), r_port = bpf_ntohl(L7_CTX_U32(s, L7_OPS(remote_port)));

	if (s->family == AF_INET6) {
		l[0] = L7_CTX_U32(s, L7_OPS(local_ip6));
		l[1] = L7_CTX_U32(s, L7_OPS(local_ip6) + 4);
		l[2] = L7_CTX_U32(s, L7_OPS(local_ip6) + 8);
		l[3] = L7_CTX_U32(s, L7_OPS(local_ip6) + 12);
		r[0] = L7_CTX_U32(s, L7_OPS(remote_ip6));
		r[1] = L7_CTX_U32(s, L7_OPS(remote_ip6) + 4);
		r[2] = L7_CTX_U32(s, L7_OPS(remote_ip6) + 8);
		r[3] = L7_CTX_U32(s, L7_OPS(remote_ip6) + 12);
	} else {
		l[3] = L7_CTX_U32(s, L7_OPS(local_ip4));
		r[3] = L7_CTX_U32(s, L7_OPS(remote_ip4));
	}
	/* other addresses are unique on the node's networks; loopback ones only within a namespace */
	f->netns = l7_is_loopback(l) || l7_is_loopback(r) ? bpf_get_netns_cookie(s) : 0;
	__builtin_memcpy(f->src, passive ? r : l, 16);
	__builtin_memcpy(f->dst, passive ? l : r, 16);
	f->src_port = passive ? r_port : l_port;
	f->dst_port = passive ? l_port : r_port;
}

static __always_inline void l7_client_up(struct bpf_sock_ops *s, struct bpf_sock *sk, struct l7_sock_state *st,
					 struct l7_flow_key *f)
{
	struct l7_conn *c;
	u32 id, i;
	u64 key;

	st->id = 0;
	if (bpf_map_pop_elem(&conn_ids, &id)) {
		l7_count(L7_REASON_NO_CONN_ID);
		st->kind = L7_SOCK_KIND_CLIENT_SLOW;
	} else {
		i = id & (L7_MAX_CONNS - 1);
		c = bpf_map_lookup_elem(&conns, &i);
		if (!c)
			return;
		/* the agent does not know this id before it accepts, so nobody else writes the record now */
		__builtin_memset(c, 0, sizeof(*c));
		c->id = id;
		st->id = id;
		st->seq0 = s->rcv_nxt;
		bpf_sock_ops_cb_flags_set(s, BPF_SOCK_OPS_STATE_CB_FLAG);
	}
	if (!(st->source_ip[0] | st->source_ip[1] | st->source_ip[2] | st->source_ip[3]))
		__builtin_memcpy(st->source_ip, f->src, 16);
	/* the connect hook sees the first subflow, which looks like any TCP socket until it is established */
	if (bpf_skc_to_mptcp_sock(sk)) {
		l7_count(L7_REASON_MPTCP);
		st->kind = L7_SOCK_KIND_CLIENT_SLOW;
	}
	if (st->kind == L7_SOCK_KIND_CLIENT) {
		key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_CLIENT, st->id);
		if (bpf_sock_hash_update(s, &sockhash, &key, BPF_ANY)) {
			l7_count(L7_REASON_SOCKHASH_FULL);
			st->kind = L7_SOCK_KIND_CLIENT_SLOW;
		}
	}
	bpf_map_update_elem(&flows, f, st, BPF_ANY);
}

static __always_inline void l7_active(struct bpf_sock_ops *s, struct bpf_sock *sk)
{
	struct l7_sock_state *st = bpf_sk_storage_get(&sock_storage, sk, 0, 0);
	struct l7_flow_key f = {};

	if (!st || (st->kind != L7_SOCK_KIND_CLIENT && st->kind != L7_SOCK_KIND_CLIENT_SLOW))
		return;
	l7_flow_of(s, &f, 0);
	l7_client_up(s, sk, st, &f);
}

/* Before the SYN of an upstream connection: S, and the backstop in front of it, know it from its first segment. */
static __always_inline void l7_connecting(struct bpf_sock_ops *s, struct bpf_sock *sk)
{
	struct l7_sock_state *st = bpf_sk_storage_get(&sock_storage, sk, 0, 0);
	struct l7_flow_key f = {};
	u32 one = 1;

	if (!st || st->kind != L7_SOCK_KIND_UPSTREAM)
		return;
	l7_flow_of(s, &f, 0);
	/* an attempt that was refused has left its entry behind, and this one may have got its port: S must not take
	 * a connection of the slow path for that slot's */
	if (st->id)
		bpf_map_update_elem(&flows, &f, st, BPF_ANY);
	else
		bpf_map_delete_elem(&flows, &f);
	f.netns = 0;
	bpf_map_update_elem(&announced, &f, &one, BPF_ANY);
}

static __always_inline void l7_passive(struct bpf_sock_ops *s, struct bpf_sock *sk)
{
	struct l7_sock_state *st, *peer;
	struct l7_flow_key f = {};
	struct l7_slot *slot;
	u64 key;

	l7_flow_of(s, &f, 1);
	peer = bpf_map_lookup_elem(&flows, &f);
	if (!peer)
		return;
	st = bpf_sk_storage_get(&sock_storage, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st)
		return;
	*st = *peer;
	bpf_map_delete_elem(&flows, &f);
	if (st->kind != L7_SOCK_KIND_UPSTREAM) {
		st->kind = L7_SOCK_KIND_ACCEPTED;
		return;
	}
	f.netns = 0;
	bpf_map_delete_elem(&announced, &f);
	st->kind = L7_SOCK_KIND_SERVER;
	key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_SERVER, st->id);
	slot = l7_slot(st->id);
	if (!slot || !slot->expect)
		return;
	st->cookie = bpf_get_socket_cookie(s);
	slot->server = st->cookie;
	if (bpf_sock_hash_update(s, &sockhash, &key, BPF_ANY))
		l7_count(L7_REASON_SOCKHASH_FULL);
	else
		slot->ready = 1;
}

/* Membership in the sockhash survives connect(AF_UNSPEC): without this the socket would keep its fast path. But
 * leaving it drops what is queued there, and a client that has shut down its sending side may still have to read
 * its last answer: such a socket stays in, as one that nobody manages. */
static __always_inline void l7_closed(struct bpf_sock_ops *s, struct bpf_sock *sk)
{
	u32 before = s->args[0];
	struct l7_sock_state *st = bpf_sk_storage_get(&sock_storage, sk, 0, 0);
	struct l7_flow_key f = {};
	struct l7_conn *c;
	u64 key;

	if (!st || (st->kind != L7_SOCK_KIND_CLIENT && st->kind != L7_SOCK_KIND_CLIENT_SLOW))
		return;
	if (before != L7_TCP_FIN_WAIT1 && before != L7_TCP_FIN_WAIT2 && before != L7_TCP_CLOSING) {
		key = L7_SOCK_KEY(L7_SOCK_KEY_KIND_CLIENT, st->id);
		bpf_map_delete_elem(&sockhash, &key);
	}
	/* reset before the agent's side was established: whoever uses the same addresses next is not this client */
	l7_flow_of(s, &f, 0);
	bpf_map_delete_elem(&flows, &f);
	st->kind = L7_SOCK_KIND_NONE;
	c = l7_conn(st->id);
	if (c)
		c->flags |= L7_CONN_FLAG_CLOSED;
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *s)
{
	struct bpf_sock *sk = s->sk;

	if (!sk)
		return 1;
	switch (s->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		l7_connecting(s, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		l7_active(s, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		l7_passive(s, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (s->args[1] == TCP_CLOSE)
			l7_closed(s, sk);
		break;
	}
	return 1;
}

#endif
