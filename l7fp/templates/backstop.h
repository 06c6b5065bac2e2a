/* SPDX-License-Identifier: GPL-2.0 */
/* Backstop: in a network namespace where it is attached, a protected endpoint's port answers only connections
 * that the agent announced. Everything else gets the RST of a closed port.
 */
#ifndef L7_BACKSTOP_H
#define L7_BACKSTOP_H

#include "capture.h"

#define L7_LOOKUP(field) __builtin_offsetof(struct bpf_sk_lookup, field)

SEC("sk_lookup")
int backstop(struct bpf_sk_lookup *c)
{
	struct l7_flow_key f = {};
	struct l7_addr_key key;

	if (c->protocol != IPPROTO_TCP)
		return SK_PASS;
	f.src[2] = L7_V4_MAPPED;
	f.dst[2] = L7_V4_MAPPED;
	if (c->family == AF_INET) {
		f.src[3] = L7_CTX_U32(c, L7_LOOKUP(remote_ip4));
		f.dst[3] = L7_CTX_U32(c, L7_LOOKUP(local_ip4));
	} else {
		f.src[0] = L7_CTX_U32(c, L7_LOOKUP(remote_ip6));
		f.src[1] = L7_CTX_U32(c, L7_LOOKUP(remote_ip6) + 4);
		f.src[2] = L7_CTX_U32(c, L7_LOOKUP(remote_ip6) + 8);
		f.src[3] = L7_CTX_U32(c, L7_LOOKUP(remote_ip6) + 12);
		f.dst[0] = L7_CTX_U32(c, L7_LOOKUP(local_ip6));
		f.dst[1] = L7_CTX_U32(c, L7_LOOKUP(local_ip6) + 4);
		f.dst[2] = L7_CTX_U32(c, L7_LOOKUP(local_ip6) + 8);
		f.dst[3] = L7_CTX_U32(c, L7_LOOKUP(local_ip6) + 12);
	}
	f.src_port = bpf_ntohs(c->remote_port);
	f.dst_port = c->local_port;
	__builtin_memcpy(key.ip, f.dst, 16);
	key.port = f.dst_port;
	if (!bpf_map_lookup_elem(&protected, &key))
		return SK_PASS;
	if (bpf_map_lookup_elem(&announced, &f))
		return SK_PASS;
	l7_count(L7_REASON_BACKSTOP);
	return SK_DROP;
}

#endif
