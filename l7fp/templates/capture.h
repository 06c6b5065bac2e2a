/* SPDX-License-Identifier: GPL-2.0 */
/* Capture: connections to managed destinations go to the agent's listener in the client's own network
 * namespace, and their sockets remember where they wanted to go and who opened them.
 *
 * Every way that is not an ordinary TCP connect is refused here: UDP to a managed port, and a namespace in
 * which the agent does not listen yet. Nothing managed ever leaves unseen.
 */
#ifndef L7_CAPTURE_H
#define L7_CAPTURE_H

#include "base_maps.h"
#include "kernel_types.h"

#define L7_ECONNREFUSED 111
#define L7_V4_MAPPED bpf_htonl(0xffff)
#define L7_CGROUP_DEPTH 12

/* Context fields must be read one by one at constant offsets; the compiler would otherwise merge them. */
#define L7_CTX_U32(ctx, off)                                                                     \
	({                                                                                       \
		u64 v_;                                                                          \
		asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(v_) : "r"(ctx), "i"(off));         \
		(u32)v_;                                                                         \
	})

static __always_inline int l7_is_v4(const u32 *ip)
{
	return !ip[0] && !ip[1] && ip[2] == L7_V4_MAPPED;
}

static __always_inline int l7_is_loopback(const u32 *ip)
{
	if (l7_is_v4(ip))
		return (ip[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !ip[0] && !ip[1] && !ip[2] && ip[3] == bpf_htonl(1);
}

/* The workload the calling process belongs to: its deepest cgroup that the loader has named. */
static __always_inline u64 l7_workload(u32 *ip)
{
	u64 found = 0;

#pragma unroll
	for (int level = 1; level <= L7_CGROUP_DEPTH; level++) {
		u64 id = bpf_get_current_ancestor_cgroup_id(level);
		struct l7_workload_id *w;

		if (!id)
			break;
		w = bpf_map_lookup_elem(&workload_cgroups, &id);
		if (w) {
			found = id;
			__builtin_memcpy(ip, w->ip, 16);
		}
	}
	return found;
}

static __always_inline void l7_identify(struct bpf_sock_addr *a, struct bpf_sock *sk, struct l7_sock_state *st)
{
	struct sock *full = (struct sock *)bpf_skc_to_tcp_sock(sk);

	st->cgroup_current = bpf_get_current_cgroup_id();
	st->workload = l7_workload(st->source_ip);
	st->cgroup_socket = full ? full->sk_cgrp_data.cgroup->kn->id : 0;
	/* a socket made in one workload and used in another speaks for neither */
	if (st->cgroup_socket != st->cgroup_current) {
		u64 other = st->cgroup_socket;

		if (st->workload || bpf_map_lookup_elem(&workload_cgroups, &other))
			st->flags |= L7_SOCK_FLAG_IDENTITY_CONFLICT;
	}
}

static __always_inline int l7_refuse(u32 reason)
{
	l7_count(reason);
	bpf_set_retval(-L7_ECONNREFUSED);
	return 0;
}

/* struct bpf_sock_tuple, one for each family */
struct l7_tuple4 {
	u32 saddr, daddr;
	u16 sport, dport;
};

struct l7_tuple6 {
	u32 saddr[4], daddr[4];
	u16 sport, dport;
};

/* Whether the agent itself listens on loopback port `port`. The map outlives an agent that was killed, and the
 * port may be anybody's then. */
static __always_inline int l7_listening(struct bpf_sock_addr *a, int native_v6, u32 port)
{
	struct l7_tuple4 t4 = { .saddr = bpf_htonl(0x7f000001), .daddr = bpf_htonl(0x7f000001), .dport = bpf_htons(port) };
	struct l7_tuple6 t6 = { .dport = bpf_htons(port) };
	struct l7_sock_state *st;
	struct bpf_sock *sk;
	int ours;

	t6.saddr[3] = bpf_htonl(1);
	t6.daddr[3] = bpf_htonl(1);
	if (native_v6)
		sk = bpf_sk_lookup_tcp(a, &t6, sizeof(t6), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_tcp(a, &t4, sizeof(t4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	st = bpf_sk_storage_get(&sock_storage, sk, 0, 0);
	ours = st && st->kind == L7_SOCK_KIND_LISTENER;
	bpf_sk_release(sk);
	return ours;
}

/* 1 to let the call go on, 0 to refuse it. `key` is the destination as the application gave it. */
static __always_inline int l7_connect(struct bpf_sock_addr *a, struct l7_addr_key *key, int v6)
{
	struct l7_sock_state *st;
	struct l7_listener *to;
	struct bpf_sock *sk = a->sk;
	int native_v6 = v6 && !l7_is_v4(key->ip);
	u32 port;
	u64 netns;

	if (!bpf_map_lookup_elem(&captured, key)) {
		/* a socket that was captured before and reconnects elsewhere after connect(AF_UNSPEC) */
		st = sk ? bpf_sk_storage_get(&sock_storage, sk, 0, 0) : 0;
		if (st && (st->kind == L7_SOCK_KIND_CLIENT || st->kind == L7_SOCK_KIND_CLIENT_SLOW)) {
			st->kind = L7_SOCK_KIND_NONE;
			l7_count(L7_REASON_RECONNECTED);
		}
		return 1;
	}
	if (a->protocol != IPPROTO_TCP && a->protocol != IPPROTO_MPTCP)
		return l7_refuse(L7_REASON_NOT_TCP);
	if (!sk)
		return l7_refuse(L7_REASON_NOT_TCP);
	st = bpf_sk_storage_get(&sock_storage, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st)
		return l7_refuse(L7_REASON_NO_MEMORY);
	if (st->kind == L7_SOCK_KIND_UPSTREAM)
		return 1; /* the agent's own, tagged through the map: no mark and no uid can forge that */
	netns = bpf_get_netns_cookie(a);
	to = bpf_map_lookup_elem(&listeners, &netns);
	port = to ? native_v6 ? to->port6 : to->port4 : 0;
	if (!port || !l7_listening(a, native_v6, port)) {
		struct l7_event e = {
			.type = L7_EVENT_TYPE_NO_LISTENER,
			.conn = bpf_get_current_pid_tgid() >> 32,
			.time_ns = bpf_ktime_get_ns(),
		};

		bpf_ringbuf_output(&events, &e, sizeof(e), 0);
		return l7_refuse(L7_REASON_NO_LISTENER);
	}
	st->flags = 0;
	st->body_left = 0;
	__builtin_memset(st->source_ip, 0, sizeof(st->source_ip));
	l7_identify(a, sk, st);
	st->kind = a->protocol == IPPROTO_MPTCP ? L7_SOCK_KIND_CLIENT_SLOW : L7_SOCK_KIND_CLIENT;
	st->protocol = a->protocol;
	st->cookie = bpf_get_socket_cookie(a);
	st->netns = netns;
	__builtin_memcpy(st->orig_ip, key->ip, 16);
	st->orig_port = key->port;
	l7_count(L7_REASON_CAPTURED);
	/* loopback is not reachable through another device */
	if (sk->bound_dev_if > 1) {
		int any = 0;

		bpf_setsockopt(a, SOL_SOCKET, SO_BINDTOIFINDEX, &any, sizeof(any));
	}
	if (native_v6) {
		a->user_ip6[0] = 0;
		a->user_ip6[1] = 0;
		a->user_ip6[2] = 0;
		a->user_ip6[3] = bpf_htonl(1);
	} else if (v6) {
		a->user_ip6[3] = bpf_htonl(0x7f000001);
	} else {
		a->user_ip4 = bpf_htonl(0x7f000001);
	}
	a->user_port = bpf_htons(port);
	return 1;
}

static __always_inline void l7_key4(struct bpf_sock_addr *a, struct l7_addr_key *key)
{
	key->ip[0] = 0;
	key->ip[1] = 0;
	key->ip[2] = L7_V4_MAPPED;
	key->ip[3] = a->user_ip4;
	key->port = bpf_ntohs(a->user_port);
}

static __always_inline void l7_key6(struct bpf_sock_addr *a, struct l7_addr_key *key)
{
	key->ip[0] = a->user_ip6[0];
	key->ip[1] = a->user_ip6[1];
	key->ip[2] = a->user_ip6[2];
	key->ip[3] = a->user_ip6[3];
	key->port = bpf_ntohs(a->user_port);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *a)
{
	struct l7_addr_key key;

	l7_key4(a, &key);
	return l7_connect(a, &key, 0);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *a)
{
	struct l7_addr_key key;

	l7_key6(a, &key);
	return l7_connect(a, &key, 1);
}

/* Datagrams to a managed port would be a way around (HTTP/3); MSG_FASTOPEN on TCP goes through connect. */
static __always_inline int l7_sendmsg(struct l7_addr_key *key)
{
	return bpf_map_lookup_elem(&captured, key) ? l7_refuse(L7_REASON_NOT_TCP) : 1;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *a)
{
	struct l7_addr_key key;

	l7_key4(a, &key);
	return l7_sendmsg(&key);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *a)
{
	struct l7_addr_key key;

	l7_key6(a, &key);
	return l7_sendmsg(&key);
}

static __always_inline struct l7_sock_state *l7_captured_client(struct bpf_sock *sk)
{
	struct l7_sock_state *st = sk ? bpf_sk_storage_get(&sock_storage, sk, 0, 0) : 0;

	return st && (st->kind == L7_SOCK_KIND_CLIENT || st->kind == L7_SOCK_KIND_CLIENT_SLOW) ? st : 0;
}

/* The application sees the peer it asked for. */
SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *a)
{
	struct l7_sock_state *st = l7_captured_client(a->sk);

	if (st) {
		a->user_ip4 = st->orig_ip[3];
		a->user_port = bpf_htons(st->orig_port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *a)
{
	struct l7_sock_state *st = l7_captured_client(a->sk);

	if (st) {
		a->user_ip6[0] = st->orig_ip[0];
		a->user_ip6[1] = st->orig_ip[1];
		a->user_ip6[2] = st->orig_ip[2];
		a->user_ip6[3] = st->orig_ip[3];
		a->user_port = bpf_htons(st->orig_port);
	}
	return 1;
}

/* SO_ORIGINAL_DST on an accepted connection, so that any transparent proxy can read it. */
SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *c)
{
	struct bpf_sock *sk = c->sk;
	struct l7_sock_state *st;
	u8 *v, *end;

	if (c->optname != SO_ORIGINAL_DST || (c->level != IPPROTO_IP && c->level != IPPROTO_IPV6) || !sk)
		return 1;
	st = bpf_sk_storage_get(&sock_storage, sk, 0, 0);
	if (!st || st->kind != L7_SOCK_KIND_ACCEPTED)
		return 1;
	v = c->optval;
	end = c->optval_end;
	if (c->level == IPPROTO_IP) {
		if (v + 16 > end || !l7_is_v4(st->orig_ip))
			return 1;
		*(u16 *)v = AF_INET;
		*(u16 *)(v + 2) = bpf_htons(st->orig_port);
		*(u32 *)(v + 4) = st->orig_ip[3];
		*(u64 *)(v + 8) = 0;
		c->optlen = 16;
	} else {
		if (v + 28 > end)
			return 1;
		*(u16 *)v = AF_INET6;
		*(u16 *)(v + 2) = bpf_htons(st->orig_port);
		*(u32 *)(v + 4) = 0;
		__builtin_memcpy(v + 8, st->orig_ip, 16);
		*(u32 *)(v + 24) = 0;
		c->optlen = 28;
	}
	c->retval = 0;
	return 1;
}

#endif
