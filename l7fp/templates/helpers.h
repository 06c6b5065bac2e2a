/* SPDX-License-Identifier: GPL-2.0 */
/* What a BPF program needs of the kernel's interface, by UAPI number and layout (linux/bpf.h, stable), so that
 * a policy compiles where no kernel headers are installed, with `zig cc -target bpfel-freestanding` as with
 * clang -target bpf. Takes the place of linux/bpf.h, bpf_helpers.h and bpf_endian.h: don't mix them.
 *
 * Atomics: __sync_fetch_and_or/add and __sync_val_compare_and_swap on 4 or 8 byte words are single BPF
 * instructions with -mcpu=v3; __atomic_load/store are plain moves and order nothing.
 */
#ifndef L7_HELPERS_H
#define L7_HELPERS_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;

#define SEC(name) __attribute__((section(name), used))
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __noinline __attribute__((noinline))

/* BTF map definitions */
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]

/* CO-RE: a struct of the running kernel of which only the named fields matter */
#define L7_KERNEL_STRUCT __attribute__((preserve_access_index))
/* reads field expression `src` of such a struct behind a pointer that the verifier doesn't trust */
#define L7_CORE_READ(dst, src) bpf_probe_read_kernel((dst), sizeof(*(dst)), __builtin_preserve_access_index(&(src)))

#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
enum { SK_DROP, SK_PASS };

#define BPF_F_NO_PREALLOC (1U << 0)
#define BPF_F_NO_COMMON_LRU (1U << 1)
#define BPF_F_RDONLY_PROG (1U << 7)
#define BPF_F_MMAPABLE (1U << 10)
#define BPF_F_INGRESS (1ULL << 0)
#define BPF_F_CURRENT_NETNS (~0ULL)
#define BPF_SK_STORAGE_GET_F_CREATE (1ULL << 0)
#define BPF_RB_NO_WAKEUP (1ULL << 0)
#define BPF_RB_FORCE_WAKEUP (1ULL << 1)

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_IP 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41
#define IPPROTO_MPTCP 262
#define SOL_SOCKET 1
#define SO_BINDTOIFINDEX 62
#define SO_ORIGINAL_DST 80
#define IP6T_SO_ORIGINAL_DST 80
#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7

enum {
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_STATE_CB = 10,
};
#define BPF_SOCK_OPS_STATE_CB_FLAG (1 << 2)

/* a pointer field of a context is 8 bytes on every machine */
#define L7_CTX_PTR(type, name) \
	union { \
		type name; \
		u64 name##_u64; \
	} __attribute__((aligned(8)))

struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
	u32 mark;
	u32 priority;
	u32 src_ip4;
	u32 src_ip6[4];
	u32 src_port; /* host order */
	u16 dst_port; /* network order */
	u16 _zero;
	u32 dst_ip4;
	u32 dst_ip6[4];
	u32 state;
	s32 rx_queue_mapping;
};

struct sk_msg_md {
	L7_CTX_PTR(void *, data);
	L7_CTX_PTR(void *, data_end);
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port; /* network order */
	u32 local_port; /* host order */
	u32 size;
	L7_CTX_PTR(struct bpf_sock *, sk);
};

struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port; /* network order */
	u32 family;
	u32 type;
	u32 protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
	L7_CTX_PTR(struct bpf_sock *, sk);
};

struct bpf_sock_ops {
	u32 op;
	union {
		u32 args[4];
		u32 reply;
		u32 replylong[4];
	};
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port; /* network order, in the upper half on little endian: bpf_ntohl() */
	u32 local_port; /* host order */
	u32 is_fullsock;
	u32 snd_cwnd;
	u32 srtt_us;
	u32 bpf_sock_ops_cb_flags;
	u32 state;
	u32 rtt_min;
	u32 snd_ssthresh;
	u32 rcv_nxt;
	u32 snd_nxt;
	u32 snd_una;
	u32 mss_cache;
	u32 ecn_flags;
	u32 rate_delivered;
	u32 rate_interval_us;
	u32 packets_out;
	u32 retrans_out;
	u32 total_retrans;
	u32 segs_in;
	u32 data_segs_in;
	u32 segs_out;
	u32 data_segs_out;
	u32 lost_out;
	u32 sacked_out;
	u32 sk_txhash;
	u64 bytes_received;
	u64 bytes_acked;
	L7_CTX_PTR(struct bpf_sock *, sk);
	L7_CTX_PTR(void *, skb_data);
	L7_CTX_PTR(void *, skb_data_end);
	u32 skb_len;
	u32 skb_tcp_flags;
	u64 skb_hwtstamp;
};

struct bpf_sockopt {
	L7_CTX_PTR(struct bpf_sock *, sk);
	L7_CTX_PTR(void *, optval);
	L7_CTX_PTR(void *, optval_end);
	s32 level;
	s32 optname;
	s32 optlen;
	s32 retval;
};

struct bpf_sk_lookup {
	union {
		L7_CTX_PTR(struct bpf_sock *, sk);
		u64 cookie;
	};
	u32 family;
	u32 protocol;
	u32 remote_ip4;
	u32 remote_ip6[4];
	u16 remote_port; /* network order */
	u16 _zero;
	u32 local_ip4;
	u32 local_ip6[4];
	u32 local_port; /* host order */
	u32 ingress_ifindex;
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
};

#define L7_HELPER(ret, name, num, ...) \
	__attribute__((unused)) static ret (*const bpf_##name)(__VA_ARGS__) = (ret(*)(__VA_ARGS__))num

/* maps */
L7_HELPER(void *, map_lookup_elem, 1, void *map, const void *key);
L7_HELPER(long, map_update_elem, 2, void *map, const void *key, const void *value, u64 flags);
L7_HELPER(long, map_delete_elem, 3, void *map, const void *key);
L7_HELPER(long, map_push_elem, 87, void *map, const void *value, u64 flags);
L7_HELPER(long, map_pop_elem, 88, void *map, void *value);
L7_HELPER(long, map_peek_elem, 89, void *map, void *value);
L7_HELPER(long, tail_call, 12, void *ctx, void *prog_array, u32 index);
L7_HELPER(void *, sk_storage_get, 107, void *map, void *sk, void *value, u64 flags);
L7_HELPER(long, sk_storage_delete, 108, void *map, void *sk);
L7_HELPER(long, ringbuf_output, 130, void *ringbuf, void *data, u64 size, u64 flags);
L7_HELPER(void *, ringbuf_reserve, 131, void *ringbuf, u64 size, u64 flags);
L7_HELPER(void, ringbuf_submit, 132, void *data, u64 flags);
L7_HELPER(void, ringbuf_discard, 133, void *data, u64 flags);
/* flow of control; `iterations` must not be provably 0 */
L7_HELPER(long, loop, 181, u32 iterations, void *callback, void *callback_ctx, u64 flags);
/* time, chance, memory */
L7_HELPER(u64, ktime_get_ns, 5, void);
L7_HELPER(u64, ktime_get_coarse_ns, 160, void);
L7_HELPER(u32, get_prandom_u32, 7, void);
L7_HELPER(long, trace_printk, 6, const char *fmt, u32 fmt_size, ...);
L7_HELPER(long, probe_read_kernel, 113, void *dst, u32 size, const void *src);
L7_HELPER(u64, get_current_pid_tgid, 14, void);
L7_HELPER(void *, get_current_task_btf, 158, void);
/* identity */
L7_HELPER(u64, get_current_cgroup_id, 80, void);
L7_HELPER(u64, get_current_ancestor_cgroup_id, 123, int ancestor_level);
L7_HELPER(u64, get_socket_cookie, 46, void *ctx);
L7_HELPER(u64, get_netns_cookie, 122, void *ctx);
/* sockets */
L7_HELPER(long, setsockopt, 49, void *ctx, int level, int optname, void *optval, int optlen);
L7_HELPER(long, getsockopt, 57, void *ctx, int level, int optname, void *optval, int optlen);
L7_HELPER(long, sock_ops_cb_flags_set, 59, struct bpf_sock_ops *ctx, int flags);
L7_HELPER(long, sock_hash_update, 70, struct bpf_sock_ops *ctx, void *map, void *key, u64 flags);
L7_HELPER(long, sk_release, 86, void *sk);
L7_HELPER(struct bpf_sock *, sk_fullsock, 95, struct bpf_sock *sk);
L7_HELPER(struct bpf_sock *, sk_lookup_tcp, 84, void *ctx, void *tuple, u32 tuple_size, u64 netns, u64 flags);
L7_HELPER(struct bpf_sock *, skc_lookup_tcp, 99, void *ctx, void *tuple, u32 tuple_size, u64 netns, u64 flags);
L7_HELPER(long, sk_assign, 124, void *ctx, void *sk, u64 flags);
L7_HELPER(void *, skc_to_tcp_sock, 137, void *sk);
L7_HELPER(void *, skc_to_mptcp_sock, 196, void *sk);
/* cgroup hooks: the errno that the caller sees */
L7_HELPER(long, set_retval, 187, int retval);
/* sk_msg */
L7_HELPER(long, msg_apply_bytes, 61, struct sk_msg_md *msg, u32 bytes);
L7_HELPER(long, msg_cork_bytes, 62, struct sk_msg_md *msg, u32 bytes);
L7_HELPER(long, msg_pull_data, 63, struct sk_msg_md *msg, u32 start, u32 end, u64 flags);
L7_HELPER(long, msg_redirect_hash, 71, struct sk_msg_md *msg, void *map, void *key, u64 flags);
L7_HELPER(long, msg_push_data, 90, struct sk_msg_md *msg, u32 start, u32 len, u64 flags);
L7_HELPER(long, msg_pop_data, 91, struct sk_msg_md *msg, u32 start, u32 len, u64 flags);
/* __sk_buff */
L7_HELPER(long, skb_store_bytes, 9, struct __sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags);
L7_HELPER(long, skb_load_bytes, 26, const struct __sk_buff *skb, u32 offset, void *to, u32 len);
L7_HELPER(long, skb_change_tail, 38, struct __sk_buff *skb, u32 len, u64 flags);
L7_HELPER(long, skb_pull_data, 39, struct __sk_buff *skb, u32 len);

#endif
