/* SPDX-License-Identifier: GPL-2.0 */
/* The HTTP/1.1 code as a library of the test process. Every message ends at a page that may not be touched, so a
 * read or write behind it is a crash. */
#define L7_HOST
#include "parse_http1.h"
#include "edit.h"
#include "reply.h"
#include "chunked.h"
#include <sys/mman.h>

#define ARENA (256 * 1024)

static u8 *arena_end;
static struct l7_head head;
static struct l7_chunks chunks;

enum { REQUEST, RESPONSE, EDIT_REQUEST, EDIT_RESPONSE, REPLY };

struct http1_run {
	u32 op, arg, is_head, fail_at, room, changes;
	int result;
	u32 len; /* of the message, in and out */
};

u32 http1_head_size(void)
{
	return sizeof(struct l7_head);
}

void http1_state(const struct l7_host_state *state)
{
	l7_host = *state;
}

#define TABLE(index, name) \
	case index: \
		l7_host_##name = rows; \
		l7_host_##name##_count = count; \
		break

/* 0, or -1 for a table that this code does not read */
int http1_table(u32 index, void *rows, u32 count)
{
	switch (index) {
		TABLE(0, cells);
		TABLE(1, masks);
		TABLE(2, headers);
		TABLE(3, response_headers);
		TABLE(4, queries);
		TABLE(5, edits);
		TABLE(6, parts);
		TABLE(7, replies);
		TABLE(8, blob);
	default:
		return -1;
	}
	return 0;
}

static u8 *place(const u8 *bytes, u32 len, u32 room)
{
	if (!arena_end) {
		u8 *at = mmap(0, ARENA + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (at == MAP_FAILED || mprotect(at + ARENA, 4096, PROT_NONE))
			return 0;
		arena_end = at + ARENA;
	}
	if (room > ARENA)
		return 0;
	return memcpy(arena_end - room, bytes, len);
}

/* `message` has `len` bytes and room for `room`. `out` receives the head as parsed, before any change. */
int http1_run(struct http1_run *r, u8 *message, struct l7_head *out)
{
	u8 *at = place(message, r->len, r->room > r->len ? r->room : r->len);
	struct l7_view v = { .buf = at, .len = r->len, .room = r->room, .window_end = r->len };
	int response = r->op == RESPONSE || r->op == EDIT_RESPONSE;

	if (!at)
		return -1;
	memset(&head, 0xa5, sizeof(head)); /* nothing may depend on what an earlier message left */
	r->result = response ? l7_parse_response(&v, r->len, &head, r->is_head) : l7_parse_request(&v, r->len, &head);
	*out = head;
	if (r->result || r->op <= RESPONSE)
		return 0;
	v.fail_at = r->fail_at;
	if (r->op == EDIT_REQUEST)
		r->result = l7_edit_request(&v, &head, r->arg);
	else if (r->op == EDIT_RESPONSE)
		r->result = l7_edit_response(&v, &head, r->arg);
	else
		r->result = l7_make_reply(&v, &head, r->arg);
	r->changes = v.changes;
	r->len = v.len;
	memcpy(message, v.buf, v.len);
	return 0;
}

/* The next piece of a chunked body; `fresh` begins a body. Returns L7_CHUNKED_*, *end is k->end. */
u32 http1_chunked(const u8 *bytes, u32 off, u32 len, int fresh, u32 *end)
{
	u8 *at = place(bytes, len, len);
	struct l7_view v = { .buf = at, .len = len, .room = len };
	struct l7_chunks kept = { .left = chunks.left, .state = chunks.state, .digits = chunks.digits };
	u32 outcome;

	memset(&chunks, 0xa5, sizeof(chunks)); /* only these three outlive a message */
	chunks.left = fresh ? 0 : kept.left;
	chunks.state = fresh ? 0 : kept.state;
	chunks.digits = fresh ? 0 : kept.digits;
	outcome = l7_chunked(&v, off, len, &chunks);
	*end = chunks.end;
	return outcome;
}
