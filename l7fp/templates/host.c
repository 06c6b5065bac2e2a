/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's HTTP code as a library for tests: same headers, memory in place of maps and messages. */
#define L7_HOST 1
#include "abi.h"
#include "env.h"
#include "tables.h"
#include "dfa.h"
#include "parse_http1.h"
#include "match.h"
#include "edit.h"
#include "reply.h"
#include "chunked.h"

/* A message and what became of it. The caller owns `buf`, of `room` bytes. */
struct l7_host_call {
	u8 *buf;
	u64 source_bits, source_ip_bits;
	u64 content_length;
	u32 len, room;
	u32 fail_at; /* number of the change that fails, 0 for none */
	u32 port, random;
	u32 is_head, edit_number; /* of a response */
	u32 parsed; /* enum l7_reason */
	u32 verdict, reason, rule, dest, reply;
	int edited; /* result of the edit or reply */
	u32 head_len, status, flags, _pad;
};

static void l7_host_view(struct l7_host_call *c, struct l7_view *v)
{
	memset(v, 0, sizeof(*v));
	v->buf = c->buf;
	v->len = c->len;
	v->room = c->room;
	v->window_end = c->len;
	v->fail_at = c->fail_at;
}

static void l7_host_facts(struct l7_host_call *c, struct l7_head *h)
{
	c->content_length = h->content_length;
	c->head_len = h->head_len;
	c->status = h->status;
	c->flags = h->flags;
}

/* Parse and decide; then edit, or make the reply, in place. */
void l7_host_request(struct l7_host_call *c)
{
	static struct l7_head h;
	struct l7_flow f = { .port = c->port, .source_bits = c->source_bits, .source_ip_bits = c->source_ip_bits };
	struct l7_result r = {};
	struct l7_dest *dest;
	struct l7_view v;

	l7_host_view(c, &v);
	memset(&h, 0xa5, sizeof(h)); /* what an earlier request left behind must not matter */
	c->parsed = l7_parse_request(&v, c->len < L7_MAX_HEAD ? c->len : L7_MAX_HEAD, &h);
	c->verdict = L7_VERDICT_DIVERT;
	c->reason = c->parsed;
	c->rule = c->dest = c->reply = L7_NONE;
	c->edited = 0;
	l7_host_facts(c, &h);
	if (c->parsed)
		return;
	l7_decide(&v, &h, &f, c->random, &r);
	c->verdict = r.verdict;
	c->reason = r.reason;
	c->rule = r.rule;
	c->dest = r.dest;
	c->reply = r.reply;
	if (r.verdict == L7_VERDICT_REPLY) {
		c->edited = l7_make_reply(&v, &h, r.reply);
	} else if (r.verdict == L7_VERDICT_FORWARD) {
		dest = l7_dest(r.dest);
		if (dest && dest->request_edit != L7_NONE)
			c->edited = l7_edit_request(&v, &h, dest->request_edit);
	}
	c->len = v.len;
}

/* Parse and apply edit `edit_number` (L7_NONE: none) in place. */
void l7_host_response(struct l7_host_call *c)
{
	static struct l7_head h;
	struct l7_view v;

	l7_host_view(c, &v);
	memset(&h, 0xa5, sizeof(h));
	c->parsed = l7_parse_response(&v, c->len < L7_MAX_HEAD ? c->len : L7_MAX_HEAD, &h, c->is_head);
	l7_host_facts(c, &h);
	c->edited = 0;
	if (!c->parsed)
		c->edited = l7_edit_response(&v, &h, c->edit_number);
	c->len = v.len;
}

/* Feeds `len` bytes of a chunked body; L7_CHUNKED_*. */
u32 l7_host_chunked(u8 *buf, u32 len, struct l7_chunks *k)
{
	struct l7_view v = { .buf = buf, .len = len, .room = len, .window_end = len };

	return l7_chunked(&v, 0, len, k);
}

/* Output of the automaton at `start` for a text. */
u32 l7_host_lookup(u32 start, const u8 *text, u32 len)
{
	u64 *cells = l7_cells();

	for (u32 i = 0; i < len; i++)
		start = l7_dfa_next(cells, start, text[i]);
	return l7_dfa_output(cells, start);
}

u32 l7_host_call_size(void)
{
	return sizeof(struct l7_host_call);
}

u32 l7_host_chunks_size(void)
{
	return sizeof(struct l7_chunks);
}
