/* SPDX-License-Identifier: GPL-2.0 */
/* Written from l7fp/abi.py: the memory that kernel programs, loader and agent share. */
#ifndef L7_ABI_H
#define L7_ABI_H

#ifdef L7_HOST
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
#else
#include "helpers.h"
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif


#define L7_BODY_LIMIT 262144
#define L7_DFA_HEADER 2147483648U
#define L7_DFA_SINK 1073741824
#define L7_MAX_BITS 32
#define L7_MAX_CONNS 65536
#define L7_MAX_ENDPOINTS 4096
#define L7_MAX_HEAD 16384
#define L7_MAX_POOL 4096
#define L7_MAX_REMOVES 8
#define L7_MAX_REPLY 4096
#define L7_MAX_SLOTS 16384
#define L7_MAX_STEPS 4096
#define L7_NONE 4294967295U

enum l7_sock_kind {
	L7_SOCK_KIND_NONE = 0,
	L7_SOCK_KIND_CLIENT = 1,
	L7_SOCK_KIND_SERVER = 2,
	L7_SOCK_KIND_ACCEPTED = 3,
	L7_SOCK_KIND_UPSTREAM = 4,
	L7_SOCK_KIND_CLIENT_SLOW = 5,
};

#define L7_SOCK_FLAG_IDENTITY_CONFLICT 1

enum l7_sock_key_kind {
	L7_SOCK_KEY_KIND_CLIENT = 1,
	L7_SOCK_KEY_KIND_SERVER = 2,
};

#define L7_CONN_FLAG_CLOSED 1
#define L7_CONN_FLAG_IDENTITY_CONFLICT 2
#define L7_CONN_FLAG_RESET 4

#define L7_SLOT_FLAG_BUSY 4294967296ULL
#define L7_SLOT_FLAG_REQUEST_DONE 8589934592ULL
#define L7_SLOT_FLAG_RESPONSE_STARTED 17179869184ULL
#define L7_SLOT_FLAG_RESPONSE_DONE 34359738368ULL
#define L7_SLOT_FLAG_CLAIMED 68719476736ULL
#define L7_SLOT_FLAG_ADOPTED 137438953472ULL
#define L7_SLOT_FLAG_NO_REUSE 274877906944ULL
#define L7_SLOT_FLAG_DEAD 549755813888ULL

enum l7_resp_mode {
	L7_RESP_MODE_HEAD = 0,
	L7_RESP_MODE_LENGTH = 1,
	L7_RESP_MODE_CHUNKED = 2,
	L7_RESP_MODE_RELAY_LENGTH = 3,
	L7_RESP_MODE_RELAY_CHUNKED = 4,
	L7_RESP_MODE_ADOPT = 5,
};

enum l7_verdict {
	L7_VERDICT_FORWARD = 1,
	L7_VERDICT_REPLY = 2,
	L7_VERDICT_DIVERT = 3,
};

enum l7_rule_action {
	L7_RULE_ACTION_FORWARD = 1,
	L7_RULE_ACTION_REPLY = 2,
	L7_RULE_ACTION_SLOW = 3,
};

enum l7_op {
	L7_OP_END = 0,
	L7_OP_ALL = 1,
	L7_OP_ANY = 2,
	L7_OP_NONE = 3,
	L7_OP_JUMP = 4,
};

enum l7_authz_result {
	L7_AUTHZ_RESULT_ALLOW = 0,
	L7_AUTHZ_RESULT_DENY = 1,
	L7_AUTHZ_RESULT_SLOW = 2,
};

enum l7_bits {
	L7_BITS_METHOD = 0,
	L7_BITS_SOURCE = 1,
	L7_BITS_SOURCE_IP = 2,
	L7_BITS_PORT = 3,
	L7_BITS_HOST = 4,
	L7_BITS_FIRST_NAMED = 5,
};

enum l7_header_kind {
	L7_HEADER_KIND_OTHER = 0,
	L7_HEADER_KIND_HOST = 1,
	L7_HEADER_KIND_CONTENT_LENGTH = 2,
	L7_HEADER_KIND_TRANSFER_ENCODING = 3,
	L7_HEADER_KIND_CONNECTION = 4,
	L7_HEADER_KIND_DIVERT = 5,
	L7_HEADER_KIND_POLICY = 6,
};

enum l7_part_kind {
	L7_PART_KIND_CONST = 0,
	L7_PART_KIND_HOST = 1,
	L7_PART_KIND_PATH = 2,
	L7_PART_KIND_QUERY = 3,
};

enum l7_path_op {
	L7_PATH_OP_KEEP = 0,
	L7_PATH_OP_REPLACE_PREFIX = 1,
	L7_PATH_OP_REPLACE_ALL = 2,
};

enum l7_balance {
	L7_BALANCE_ROUND_ROBIN = 0,
	L7_BALANCE_RANDOM = 1,
};

enum l7_reason {
	L7_REASON_NONE = 0,
	L7_REASON_FORWARDED = 1,
	L7_REASON_REPLIED = 2,
	L7_REASON_RESPONSES = 3,
	L7_REASON_BODY = 4,
	L7_REASON_SLOW_MODE = 10,
	L7_REASON_UNREAD_ANSWER = 11,
	L7_REASON_PIPELINED = 12,
	L7_REASON_INCOMPLETE_HEAD = 13,
	L7_REASON_HEAD_TOO_LARGE = 14,
	L7_REASON_SYNTAX = 15,
	L7_REASON_PATH_UNSAFE = 16,
	L7_REASON_TRANSFER_ENCODING = 17,
	L7_REASON_HOP_BY_HOP = 18,
	L7_REASON_BODY_UNEXPECTED = 19,
	L7_REASON_BODY_TOO_LARGE = 20,
	L7_REASON_DUPLICATE_HEADER = 21,
	L7_REASON_UNKNOWN_HOST = 22,
	L7_REASON_UNKNOWN_PORT = 23,
	L7_REASON_RULE_SLOW = 24,
	L7_REASON_AUTHZ_SLOW = 25,
	L7_REASON_POOL_EMPTY = 26,
	L7_REASON_NO_ENDPOINT = 27,
	L7_REASON_IDENTITY = 28,
	L7_REASON_NO_MEMORY = 29,
	L7_REASON_NO_POLICY = 30,
	L7_REASON_RECEIVE_BUFFER = 31,
	L7_REASON_DUPLICATE_QUERY = 32,
	L7_REASON_STEP_LIMIT = 33,
	L7_REASON_BODY_SLOT_LOST = 34,
	L7_REASON_BODY_TRAILING = 35,
	L7_REASON_ADOPTED_RESPONSE = 50,
	L7_REASON_RELAYED_BODY = 51,
	L7_REASON_STRAY_RESPONSE = 52,
	L7_REASON_CLIENT_GONE = 53,
	L7_REASON_CAPTURED = 70,
	L7_REASON_NOT_TCP = 71,
	L7_REASON_MPTCP = 72,
	L7_REASON_NO_CONN_ID = 73,
	L7_REASON_SOCKHASH_FULL = 74,
	L7_REASON_NO_LISTENER = 75,
	L7_REASON_RECONNECTED = 76,
	L7_REASON_BACKSTOP = 77,
	L7_REASON_POOL_PUSH_LOST = 78,
	L7_REASON_RESET = 79,
	L7_REASON_MAX = 96,
};

enum l7_event_type {
	L7_EVENT_TYPE_REQUEST = 1,
	L7_EVENT_TYPE_REPLY = 2,
	L7_EVENT_TYPE_DIVERT = 3,
	L7_EVENT_TYPE_NO_LISTENER = 4,
	L7_EVENT_TYPE_RESET = 5,
	L7_EVENT_TYPE_TIMEOUT = 6,
	L7_EVENT_TYPE_TIMEOUT_LATE = 7,
};

enum l7_ctl_op {
	L7_CTL_OP_CLAIM = 1,
	L7_CTL_OP_RELEASE = 2,
	L7_CTL_OP_KILL = 3,
	L7_CTL_OP_OFFER = 4,
	L7_CTL_OP_SWEEP = 5,
};

struct l7_addr_key {
	u32 ip[4];
	u32 port;
};
_Static_assert(sizeof(struct l7_addr_key) == 20, "size");
_Static_assert(__builtin_offsetof(struct l7_addr_key, ip) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_addr_key, port) == 16, "offset");

struct l7_capture {
	u32 flags;
};
_Static_assert(sizeof(struct l7_capture) == 4, "size");
_Static_assert(__builtin_offsetof(struct l7_capture, flags) == 0, "offset");

struct l7_listener {
	u32 port4;
	u32 port6;
};
_Static_assert(sizeof(struct l7_listener) == 8, "size");
_Static_assert(__builtin_offsetof(struct l7_listener, port4) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_listener, port6) == 4, "offset");

struct l7_workload_id {
	u32 ip[4];
};
_Static_assert(sizeof(struct l7_workload_id) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_workload_id, ip) == 0, "offset");

struct l7_flow_key {
	u64 netns;
	u32 src[4];
	u32 dst[4];
	u32 src_port;
	u32 dst_port;
};
_Static_assert(sizeof(struct l7_flow_key) == 48, "size");
_Static_assert(__builtin_offsetof(struct l7_flow_key, netns) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_flow_key, src) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_flow_key, dst) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_flow_key, src_port) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_flow_key, dst_port) == 44, "offset");

struct l7_sock_state {
	u64 body_left;
	u64 cgroup_current;
	u64 cgroup_socket;
	u64 workload;
	u64 cookie;
	u64 netns;
	u32 kind;
	u32 id;
	u32 seq0;
	u32 protocol;
	u32 orig_ip[4];
	u32 orig_port;
	u32 flags;
	u32 source_ip[4];
	u32 redirected;
	u32 tail;
};
_Static_assert(sizeof(struct l7_sock_state) == 112, "size");
_Static_assert(__builtin_offsetof(struct l7_sock_state, body_left) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, cgroup_current) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, cgroup_socket) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, workload) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, cookie) == 32, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, netns) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, kind) == 48, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, id) == 52, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, seq0) == 56, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, protocol) == 60, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, orig_ip) == 64, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, orig_port) == 80, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, flags) == 84, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, source_ip) == 88, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, redirected) == 104, "offset");
_Static_assert(__builtin_offsetof(struct l7_sock_state, tail) == 108, "offset");

struct l7_conn {
	u64 passed;
	u64 acked;
	u64 sent;
	u32 id;
	u32 slot;
	u32 flags;
	u32 _pad;
	u64 forwarded;
	u64 replied;
	u64 diverted;
};
_Static_assert(sizeof(struct l7_conn) == 64, "size");
_Static_assert(__builtin_offsetof(struct l7_conn, passed) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, acked) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, sent) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, id) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, slot) == 28, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, flags) == 32, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, _pad) == 36, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, forwarded) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, replied) == 48, "offset");
_Static_assert(__builtin_offsetof(struct l7_conn, diverted) == 56, "offset");

struct l7_slot {
	u64 state;
	u64 started_ns;
	u64 resp_left;
	u64 resp_bytes;
	u64 passed;
	u64 requests;
	u32 expect;
	u32 ready;
	u32 endpoint;
	u32 rule;
	u32 dest;
	u32 version;
	u32 timeout_ms;
	u32 is_head;
	u32 resp_mode;
	u32 chunk_state;
	u32 status;
	u32 relay_done;
	u32 chunk_digits;
	u32 conn;
	u32 deadline_told;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_slot) == 112, "size");
_Static_assert(__builtin_offsetof(struct l7_slot, state) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, started_ns) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, resp_left) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, resp_bytes) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, passed) == 32, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, requests) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, expect) == 48, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, ready) == 52, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, endpoint) == 56, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, rule) == 60, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, dest) == 64, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, version) == 68, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, timeout_ms) == 72, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, is_head) == 76, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, resp_mode) == 80, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, chunk_state) == 84, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, status) == 88, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, relay_done) == 92, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, chunk_digits) == 96, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, conn) == 100, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, deadline_told) == 104, "offset");
_Static_assert(__builtin_offsetof(struct l7_slot, _pad) == 108, "offset");

struct l7_endpoint_state {
	u32 usable;
	u32 idle;
	u64 empty;
	u64 requests;
};
_Static_assert(sizeof(struct l7_endpoint_state) == 24, "size");
_Static_assert(__builtin_offsetof(struct l7_endpoint_state, usable) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_endpoint_state, idle) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_endpoint_state, empty) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_endpoint_state, requests) == 16, "offset");

struct l7_config {
	u32 event_mask;
	u32 version;
	u32 protect;
	u32 body_limit;
};
_Static_assert(sizeof(struct l7_config) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_config, event_mask) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_config, version) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_config, protect) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_config, body_limit) == 12, "offset");

struct l7_event {
	u64 time_ns;
	u64 latency_ns;
	u64 bytes;
	u32 type;
	u32 conn;
	u32 slot;
	u32 rule;
	u32 version;
	u32 endpoint;
	u32 status;
	u32 reason;
};
_Static_assert(sizeof(struct l7_event) == 56, "size");
_Static_assert(__builtin_offsetof(struct l7_event, time_ns) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, latency_ns) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, bytes) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, type) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, conn) == 28, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, slot) == 32, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, rule) == 36, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, version) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, endpoint) == 44, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, status) == 48, "offset");
_Static_assert(__builtin_offsetof(struct l7_event, reason) == 52, "offset");

struct l7_ctl {
	u32 op;
	u32 id;
	u32 arg;
	u32 result;
	u64 state;
};
_Static_assert(sizeof(struct l7_ctl) == 24, "size");
_Static_assert(__builtin_offsetof(struct l7_ctl, op) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_ctl, id) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_ctl, arg) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_ctl, result) == 12, "offset");
_Static_assert(__builtin_offsetof(struct l7_ctl, state) == 16, "offset");

struct l7_instr {
	u8 op;
	u8 slot;
	u16 _pad;
	u32 target;
	u64 mask;
};
_Static_assert(sizeof(struct l7_instr) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_instr, op) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_instr, slot) == 1, "offset");
_Static_assert(__builtin_offsetof(struct l7_instr, _pad) == 2, "offset");
_Static_assert(__builtin_offsetof(struct l7_instr, target) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_instr, mask) == 8, "offset");

struct l7_port_entry {
	u32 host_dfa;
	u32 port_bits_low;
	u32 port_bits_high;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_port_entry) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_port_entry, host_dfa) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_port_entry, port_bits_low) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_port_entry, port_bits_high) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_port_entry, _pad) == 12, "offset");

struct l7_vhost {
	u32 path_dfa;
	u32 fallback;
};
_Static_assert(sizeof(struct l7_vhost) == 8, "size");
_Static_assert(__builtin_offsetof(struct l7_vhost, path_dfa) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_vhost, fallback) == 4, "offset");

struct l7_header_entry {
	u32 kind;
	u32 slot;
	u32 value_dfa;
	u32 edit;
};
_Static_assert(sizeof(struct l7_header_entry) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_header_entry, kind) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_header_entry, slot) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_header_entry, value_dfa) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_header_entry, edit) == 12, "offset");

struct l7_query_entry {
	u32 slot;
	u32 value_dfa;
};
_Static_assert(sizeof(struct l7_query_entry) == 8, "size");
_Static_assert(__builtin_offsetof(struct l7_query_entry, slot) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_query_entry, value_dfa) == 4, "offset");

struct l7_rule {
	u32 action;
	u32 counter;
	u32 reply;
	u32 dest_first;
	u32 dest_count;
	u32 weight_total;
	u32 timeout_ms;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_rule) == 32, "size");
_Static_assert(__builtin_offsetof(struct l7_rule, action) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, counter) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, reply) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, dest_first) == 12, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, dest_count) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, weight_total) == 20, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, timeout_ms) == 24, "offset");
_Static_assert(__builtin_offsetof(struct l7_rule, _pad) == 28, "offset");

struct l7_dest {
	u32 weight_upto;
	u32 cluster;
	u32 authz;
	u32 request_edit;
	u32 response_edit;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_dest) == 24, "size");
_Static_assert(__builtin_offsetof(struct l7_dest, weight_upto) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_dest, cluster) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_dest, authz) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_dest, request_edit) == 12, "offset");
_Static_assert(__builtin_offsetof(struct l7_dest, response_edit) == 16, "offset");
_Static_assert(__builtin_offsetof(struct l7_dest, _pad) == 20, "offset");

struct l7_cluster {
	u32 balance;
	u32 first;
	u32 count;
	u32 next;
};
_Static_assert(sizeof(struct l7_cluster) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_cluster, balance) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_cluster, first) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_cluster, count) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_cluster, next) == 12, "offset");

struct l7_authz {
	u32 path_dfa;
	u32 program;
	u32 reply;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_authz) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_authz, path_dfa) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_authz, program) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_authz, reply) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_authz, _pad) == 12, "offset");

struct l7_edit {
	u32 remove_count;
	u32 remove[8];
	u32 insert_off;
	u32 insert_len;
	u32 path_op;
	u32 path_strip;
	u32 path_off;
	u32 path_len;
	u32 host_off;
	u32 host_len;
};
_Static_assert(sizeof(struct l7_edit) == 68, "size");
_Static_assert(__builtin_offsetof(struct l7_edit, remove_count) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, remove) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, insert_off) == 36, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, insert_len) == 40, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, path_op) == 44, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, path_strip) == 48, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, path_off) == 52, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, path_len) == 56, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, host_off) == 60, "offset");
_Static_assert(__builtin_offsetof(struct l7_edit, host_len) == 64, "offset");

struct l7_part {
	u32 kind;
	u32 off;
	u32 len;
	u32 _pad;
};
_Static_assert(sizeof(struct l7_part) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_part, kind) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_part, off) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_part, len) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_part, _pad) == 12, "offset");

struct l7_reply {
	u32 first;
	u32 count;
	u32 head_count;
	u32 status;
};
_Static_assert(sizeof(struct l7_reply) == 16, "size");
_Static_assert(__builtin_offsetof(struct l7_reply, first) == 0, "offset");
_Static_assert(__builtin_offsetof(struct l7_reply, count) == 4, "offset");
_Static_assert(__builtin_offsetof(struct l7_reply, head_count) == 8, "offset");
_Static_assert(__builtin_offsetof(struct l7_reply, status) == 12, "offset");

#endif
