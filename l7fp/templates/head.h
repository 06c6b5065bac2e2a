/* SPDX-License-Identifier: GPL-2.0 */
/* State and results of the HTTP/1.1 code. These structs live in map memory (sk_storage), never on the stack: the
 * verifier does not follow the contents of a map, which keeps the programs at a few thousand verified steps, and
 * the socket's lock serialises their users, which per-CPU memory would not (programs are preemptible).
 */
#ifndef L7_HEAD_H
#define L7_HEAD_H

#include "env.h"

#define L7_MAX_HEADERS 128 /* header lines of a head */
#define L7_MAX_PLACES 64 /* header_entry.edit numbers are below this */

/* l7_head.flags */
#define L7_HEAD_IS_HEAD 1U /* the request's method is HEAD */
#define L7_HEAD_NO_BODY 2U /* request: GET, HEAD, DELETE, OPTIONS, TRACE; response: to HEAD, 204, 304 */
#define L7_HEAD_HAS_HOST 4U
#define L7_HEAD_HAS_LENGTH 8U
#define L7_HEAD_CHUNKED 16U /* response only */
#define L7_HEAD_CLOSE 32U /* response only: Connection: close */
#define L7_HEAD_HAS_CONNECTION 64U
#define L7_HEAD_RESPONSE 128U

struct l7_place {
	u16 off, len;
};

/* All offsets count from the message's first byte. Valid after l7_parse_* returned 0. */
struct l7_head {
	u64 bits[L7_MAX_BITS]; /* what the values match, bit 0 of a named field: it occurs; L7_N_BITS words are set */
	u64 content_length; /* 0 without the header */
	u64 edits_seen; /* bit n: places[n] is set */
	u64 slots_seen; /* bit n: bits[n] was set by a header or query parameter */
	u32 flags; /* L7_HEAD_* */
	u32 head_len; /* with the empty line */
	u32 line_len; /* first line with its CR LF */
	u32 method_len;
	u32 path_off, path_len; /* without the query */
	u32 query_off, query_len; /* with its `?`; both 0 if there is none */
	u32 host_off, host_len;
	u32 status; /* response only */
	u32 reason; /* enum l7_reason, 0 while nothing is wrong */
	/* the parser's own */
	u32 off, state, dfa, line, headers, limit, last, slot, edit;
	struct l7_place connection; /* response: the Connection line, to be removed */
	struct l7_place places[L7_MAX_PLACES]; /* header lines that edits may remove, with their CR LF */
};

/* Body tracker of one chunked response, all zero before its first byte. */
struct l7_chunks {
	u64 left; /* CHUNK: data bytes to go */
	u32 state; /* enum l7_chunk_state */
	u32 digits; /* of the size line, then bytes of its extension, then of the trailers */
	u32 end; /* after DONE: offset behind the body's last byte */
	/* of one call */
	u32 off, len, window, window_end;
};

/* l7_chunked() */
#define L7_CHUNKED_MORE 0
#define L7_CHUNKED_DONE 1
#define L7_CHUNKED_ERROR 2

/* parse_http1.h: 0, or the enum l7_reason why the kernel leaves this head alone. The first
 * min(len, L7_MAX_HEAD) bytes must be readable. INCOMPLETE_HEAD: all bytes so far are fine. */
static u32 l7_parse_request(struct l7_view *v, u32 len, struct l7_head *h);
/* `is_head`: the response answers a HEAD request. */
static u32 l7_parse_response(struct l7_view *v, u32 len, struct l7_head *h, u32 is_head);

/* edit.h: 0 done, < 0 impossible and nothing changed yet, > 0 failed half way: reset the connection */
static int l7_edit_request(struct l7_view *v, struct l7_head *h, u32 edit);
/* also without an edit (L7_NONE): takes `Connection: close` out */
static int l7_edit_response(struct l7_view *v, struct l7_head *h, u32 edit);

/* reply.h: turns the message into reply number `reply`; results as for edits */
static int l7_make_reply(struct l7_view *v, struct l7_head *h, u32 reply);

/* chunked.h: bytes [off, len) of the message are the next of the body. L7_CHUNKED_*. */
static u32 l7_chunked(struct l7_view *v, u32 off, u32 len, struct l7_chunks *k);

#endif
