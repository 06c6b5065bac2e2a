/* SPDX-License-Identifier: GPL-2.0 */
/* Heads of HTTP/1.1 messages (RFC 9112). What is accepted is the part of the grammar that no two implementations
 * read differently; everything else is left to the slow path, by reason. One pass finds the fields that framing
 * and policy depend on and runs the value automata; a second one reads the query, where the policy looks at it.
 */
#ifndef L7_PARSE_HTTP1_H
#define L7_PARSE_HTTP1_H

#include "request_line.h"
#include "header_line.h"
#include "query.h"

static __always_inline void l7_start(struct l7_head *h, u32 len, u32 flags)
{
	for (u32 i = 0; i < L7_N_BITS && i < L7_MAX_BITS; i++)
		h->bits[i] = 0;
	h->content_length = 0;
	h->edits_seen = 0;
	h->slots_seen = 0;
	h->flags = flags;
	h->head_len = 0;
	h->line_len = 0;
	h->method_len = 0;
	h->path_off = 0;
	h->path_len = 0;
	h->query_off = 0;
	h->query_len = 0;
	h->host_off = 0;
	h->host_len = 0;
	h->status = 0;
	h->headers = 0;
	h->edit = 0;
	h->last = 0;
	h->limit = len;
	h->connection.off = 0;
	h->connection.len = 0;
}

static u32 l7_parse_request(struct l7_view *v, u32 len, struct l7_head *h)
{
	u32 reason;

	l7_start(h, len, 0);
	reason = l7_request_line(L7_CTX_OF(v), h);
	if (reason)
		return h->reason = reason;
	h->state = L7_ON_LINE;
	reason = l7_header_lines(L7_CTX_OF(v), h);
	if (reason)
		return h->reason = reason;
	if (!(h->flags & L7_HEAD_HAS_HOST))
		return h->reason = L7_REASON_SYNTAX;
	if (h->content_length && h->flags & L7_HEAD_NO_BODY)
		return h->reason = L7_REASON_BODY_UNEXPECTED;
	if (L7_QUERY_DFA && h->query_len)
		return h->reason = l7_query_parameters(L7_CTX_OF(v), h);
	return 0;
}

static u32 l7_parse_response(struct l7_view *v, u32 len, struct l7_head *h, u32 is_head)
{
	u8 *q = VIEW_BEGIN(v), *e = VIEW_END(v);
	u32 empty, reason;

	l7_start(h, len, L7_HEAD_RESPONSE | (is_head ? L7_HEAD_IS_HEAD : 0));
	if (q + 13 > e) {
		if (!l7_may_become(l7_load(v, q, e, 0), L7_HTTP_1_1))
			return h->reason = L7_REASON_SYNTAX;
		l7_cut_short(h);
		return h->reason;
	}
	if (l7_word(q) != L7_HTTP_1_1 || q[8] != ' ' || q[12] != ' ')
		return h->reason = L7_REASON_SYNTAX;
	if (q[9] < '1' || q[9] > '5' || q[10] < '0' || q[10] > '9' || q[11] < '0' || q[11] > '9')
		return h->reason = L7_REASON_SYNTAX;
	h->status = (q[9] - '0') * 100 + (q[10] - '0') * 10 + (q[11] - '0');
	h->off = 13;
	h->state = L7_ON_SKIPPED; /* the reason phrase */
	reason = l7_header_lines(L7_CTX_OF(v), h);
	if (reason)
		return h->reason = reason;
	if (h->status < 200)
		return h->reason = L7_REASON_ADOPTED_RESPONSE;
	empty = is_head || h->status == 204 || h->status == 304;
	if (h->flags & L7_HEAD_CHUNKED && h->flags & L7_HEAD_HAS_LENGTH)
		return h->reason = L7_REASON_TRANSFER_ENCODING;
	if (!(h->flags & (L7_HEAD_CHUNKED | L7_HEAD_HAS_LENGTH)) && !empty)
		return h->reason = L7_REASON_ADOPTED_RESPONSE;
	if (h->status == 204 && !is_head && (h->flags & L7_HEAD_CHUNKED || h->content_length))
		return h->reason = L7_REASON_SYNTAX;
	if (empty) {
		h->flags = (h->flags & ~L7_HEAD_CHUNKED) | L7_HEAD_NO_BODY;
		h->content_length = 0;
	}
	return 0;
}

#endif
