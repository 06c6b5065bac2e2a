/* SPDX-License-Identifier: GPL-2.0 */
/* What happens to a parsed request: virtual host by Host, rule by path and match results, destination by weight,
 * authorization of its servers. The cost does not grow with the number of rules.
 *
 * Whatever is not certain ends in L7_VERDICT_DIVERT.
 */
#ifndef L7_MATCH_H
#define L7_MATCH_H

#include "dfa.h"
#include "head.h"
#include "swar.h"
#include "tables.h"

struct l7_flow {
	u32 port; /* destination port, host order */
	u64 source_bits, source_ip_bits;
};

struct l7_result {
	u32 verdict; /* enum l7_verdict */
	u32 reason; /* DIVERT: enum l7_reason */
	u32 rule; /* L7_NONE before one was found */
	u32 dest; /* FORWARD */
	u32 reply; /* REPLY */
};

#define L7_DFA_BLOCK 32 /* bytes of text per loop callback */
#define L7_CODE_BLOCK 16 /* instructions per loop callback */
#define L7_MAX_DESTS 64

struct l7_text {
	struct l7_view *v;
	struct l7_head *h;
};

/* The text is [h->off, h->limit), the state h->dfa. */
static long l7_text_block(u32 i, void *arg)
{
	struct l7_text *t = arg;
	struct l7_head *h = t->h;
	u64 *cells = l7_cells();
	u8 *begin = VIEW_BEGIN(t->v), *end = VIEW_END(t->v);
	u32 off = h->off, left = h->limit - off, state = h->dfa;

	(void)i;
	if (!cells)
		return 1;
	for (u32 k = 0; k < L7_DFA_BLOCK / 8; k++) {
		u64 w = l7_load(t->v, begin, end, off + 8 * k);

		for (u32 n = 8 * k; n < 8 * k + 8; n++) {
			if (n >= left)
				break;
			state = l7_dfa_next(cells, state, w & 0xff);
			w >>= 8;
		}
		if (8 * k + 8 >= left || l7_dfa_is_sink(cells, state)) {
			h->dfa = state;
			return 1;
		}
	}
	h->off = off + L7_DFA_BLOCK;
	h->dfa = state;
	return 0;
}

/* Output of the automaton `start` for bytes [off, off + len) of the message. Errors go to h->reason. */
static __attribute__((noinline)) u32 l7_text_match(struct l7_view *v, struct l7_head *h, u32 start, u32 off, u32 len)
{
	struct l7_text t = { .v = v, .h = h };
	u64 *cells = l7_cells();

	if (!cells || !h)
		return 0;
	if ((u8 *)VIEW_BEGIN(v) + ((off + len) & L7_OFF_MASK) > (u8 *)VIEW_END(v)) {
		h->reason = L7_REASON_SYNTAX; /* not what was parsed */
		return 0;
	}
	h->off = off;
	h->limit = off + len;
	h->dfa = start;
	if (len)
		l7_loop(L7_MAX_HEAD / L7_DFA_BLOCK, l7_text_block, &t, 0);
	return l7_dfa_output(cells, h->dfa);
}

/* The program counter is h->off; the outcome ends up in h->last. */
static long l7_code_block(u32 i, void *arg)
{
	struct l7_head *h = ((struct l7_text *)arg)->h;
	u32 pc = h->off;

	(void)i;
	for (int n = 0; n < L7_CODE_BLOCK; n++) {
		struct l7_instr *in = l7_instr(pc);
		u64 word;

		if (!in)
			return 1;
		word = h->bits[in->slot & (L7_MAX_BITS - 1)] & in->mask;
		pc++;
		switch (in->op) {
		case L7_OP_END:
			h->last = in->target;
			h->limit = 1;
			return 1;
		case L7_OP_ALL:
			if (word != in->mask)
				pc = in->target;
			break;
		case L7_OP_ANY:
			if (!word)
				pc = in->target;
			break;
		case L7_OP_NONE:
			if (word)
				pc = in->target;
			break;
		case L7_OP_JUMP:
			pc = in->target;
			break;
		default:
			return 1;
		}
	}
	h->off = pc;
	return 0;
}

/* Runs the decision program at `address`. 1 and h->last set, or 0 if it did not end. */
static __always_inline int l7_run(struct l7_view *v, struct l7_head *h, u32 address)
{
	struct l7_text t = { .v = v, .h = h };

	h->off = address;
	h->limit = 0;
	l7_loop(L7_MAX_STEPS / L7_CODE_BLOCK, l7_code_block, &t, 0);
	return h->limit == 1;
}

static __always_inline void l7_divert_for(struct l7_result *r, u32 reason)
{
	r->verdict = L7_VERDICT_DIVERT;
	r->reason = reason;
}

/* Sets the words of match results that are not the parser's (METHOD and named fields are). */
static __always_inline void l7_words(struct l7_view *v, struct l7_head *h, struct l7_flow *f)
{
	u64 *mask;

	h->bits[L7_BITS_SOURCE] = f->source_bits;
	h->bits[L7_BITS_SOURCE_IP] = f->source_ip_bits;
	h->bits[L7_BITS_HOST] = 0;
	if (L7_HOST_BITS_DFA) {
		mask = l7_mask(l7_text_match(v, h, L7_HOST_BITS_DFA, h->host_off, h->host_len));
		if (mask)
			h->bits[L7_BITS_HOST] = *mask;
	}
}

/* The rule for the request: index in `rules`, or L7_NONE with r->reason set. */
static __always_inline u32 l7_find_rule(struct l7_view *v, struct l7_head *h, struct l7_flow *f, struct l7_result *r)
{
	struct l7_port_entry *port = l7_port(f->port);
	struct l7_vhost *vhost;
	u32 found, address;

	if (!port) {
		r->reason = L7_REASON_UNKNOWN_PORT;
		return L7_NONE;
	}
	h->bits[L7_BITS_PORT] = port->port_bits_low | (u64)port->port_bits_high << 32;
	found = l7_text_match(v, h, port->host_dfa, h->host_off, h->host_len);
	vhost = found ? l7_vhost(found - 1) : 0;
	if (!vhost) {
		r->reason = L7_REASON_UNKNOWN_HOST;
		return L7_NONE;
	}
	address = vhost->fallback;
	if (vhost->path_dfa) {
		found = l7_text_match(v, h, vhost->path_dfa, h->path_off, h->path_len);
		if (found)
			address = found - 1;
	}
	if (!l7_run(v, h, address)) {
		r->reason = L7_REASON_STEP_LIMIT;
		return L7_NONE;
	}
	return h->last;
}

/* The destination by weight: index in `dests` or L7_NONE. */
static __always_inline u32 l7_pick_dest(struct l7_rule *rule, u32 random)
{
	u32 first = rule->dest_first, count = rule->dest_count, total = rule->weight_total, point;

	if (count <= 1 || !total)
		return count ? first : L7_NONE;
	point = (u32)(((u64)random * total) >> 32);
	for (u32 n = 0; n < L7_MAX_DESTS; n++) {
		struct l7_dest *dest;

		if (n >= count)
			break;
		dest = l7_dest(first + n);
		if (!dest)
			break;
		if (point < dest->weight_upto)
			return first + n;
	}
	return L7_NONE;
}

/* Sets the verdict for a request that is about to be forwarded to `dest`. */
static __always_inline void l7_authorize(struct l7_view *v, struct l7_head *h, u32 group, struct l7_result *r)
{
	struct l7_authz *a = l7_authz(group);
	u32 address, found;

	if (!a) {
		l7_divert_for(r, L7_REASON_AUTHZ_SLOW);
		return;
	}
	address = a->program;
	if (a->path_dfa) {
		found = l7_text_match(v, h, a->path_dfa, h->path_off, h->path_len);
		if (found)
			address = found - 1;
	}
	if (!l7_run(v, h, address)) {
		l7_divert_for(r, L7_REASON_STEP_LIMIT);
		return;
	}
	switch (h->last & 0xff) {
	case L7_AUTHZ_RESULT_ALLOW:
		r->verdict = L7_VERDICT_FORWARD;
		break;
	case L7_AUTHZ_RESULT_DENY:
		r->verdict = L7_VERDICT_REPLY;
		r->reply = a->reply;
		break;
	default:
		l7_divert_for(r, L7_REASON_AUTHZ_SLOW);
	}
}

/* Decides on the request that l7_parse_request() accepted. `random` picks among weighted destinations. */
static __always_inline void l7_decide(struct l7_view *v, struct l7_head *h, struct l7_flow *f, u32 random,
				      struct l7_result *r)
{
	struct l7_rule *rule;
	struct l7_dest *dest;

	r->verdict = L7_VERDICT_DIVERT;
	r->reason = L7_REASON_RULE_SLOW;
	r->rule = L7_NONE;
	r->dest = L7_NONE;
	r->reply = L7_NONE;
	h->reason = 0;
	l7_words(v, h, f);
	r->rule = l7_find_rule(v, h, f, r);
	rule = l7_rule(r->rule);
	if (!rule || rule->action == L7_RULE_ACTION_SLOW)
		return;
	if (rule->action == L7_RULE_ACTION_REPLY) {
		r->verdict = L7_VERDICT_REPLY;
		r->reply = rule->reply;
	} else if (rule->action == L7_RULE_ACTION_FORWARD) {
		r->dest = l7_pick_dest(rule, random);
		dest = l7_dest(r->dest);
		if (!dest)
			return;
		r->verdict = L7_VERDICT_FORWARD;
		if (dest->authz != L7_NONE)
			l7_authorize(v, h, dest->authz, r);
	}
	if (h->reason)
		l7_divert_for(r, h->reason);
	else if (r->verdict != L7_VERDICT_DIVERT)
		r->reason = 0;
}

#endif
