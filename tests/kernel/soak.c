/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of the soak test, fast enough for a million requests.
 *
 *   soak server NAME PORT
 *   soak client ADDRESS PORT CONNECTIONS REQUESTS SEED
 *
 * A response's body is "NAME TARGET body=LENGTH edited=0|1 " and then dots, so every response proves whose it is.
 * The client prints one JSON object: counts by kind, and what was not as it should be.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (2 << 20)
#define MAX_FD 4096
#define STALL_MS 15000

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static int watch(int ep, int fd, unsigned events, int op)
{
	struct epoll_event e = { .events = events, .data.fd = fd };

	return epoll_ctl(ep, op, fd, &e);
}

/* --- server ------------------------------------------------------------------------------------------------------ */

struct session {
	char *in, *out;
	size_t have, skip, from, to;
	int length, head_done;
	char target[256];
	int edited;
};

static struct session *sessions[MAX_FD];
static const char *name;

static void hang_up(int fd)
{
	close(fd);
	free(sessions[fd]->in);
	free(sessions[fd]->out);
	free(sessions[fd]);
	sessions[fd] = NULL;
}

static int flush(int ep, int fd)
{
	struct session *s = sessions[fd];

	while (s->from < s->to) {
		ssize_t n = send(fd, s->out + s->from, s->to - s->from, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return watch(ep, fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
		if (n < 0)
			return -1;
		s->from += n;
	}
	s->from = s->to = 0;
	return watch(ep, fd, EPOLLIN, EPOLL_CTL_MOD);
}

static int answer(int ep, int fd)
{
	struct session *s = sessions[fd];
	char *big = strstr(s->target, "/big/"), text[400];
	int want = big ? atoi(big + 5) : 0, n, size;

	n = snprintf(text, sizeof(text), "%s %s body=%d edited=%d ", name, s->target, s->length, s->edited);
	size = want > n ? want : n;
	s->to += sprintf(s->out + s->to, "HTTP/1.1 200 OK\r\nServer: soak\r\nContent-Length: %d\r\n\r\n", size);
	memcpy(s->out + s->to, text, n);
	memset(s->out + s->to + n, '.', size - n);
	s->to += size;
	return flush(ep, fd);
}

static int converse(int ep, int fd)
{
	struct session *s = sessions[fd];
	ssize_t n = recv(fd, s->in + s->have, BUFFER - 1 - s->have, 0);
	char *end;

	if (n <= 0)
		return n < 0 && errno == EAGAIN ? 0 : -1;
	s->have += n;
	for (;;) {
		if (s->skip) {
			size_t k = s->have < s->skip ? s->have : s->skip;

			memmove(s->in, s->in + k, s->have - k);
			s->have -= k;
			s->skip -= k;
			if (s->skip)
				return 0;
			if (answer(ep, fd) < 0)
				return -1;
		}
		s->in[s->have] = 0;
		end = strstr(s->in, "\r\n\r\n");
		if (!end)
			return 0;
		*end = 0;
		s->length = 0;
		if (sscanf(s->in, "%*s %255s", s->target) != 1)
			return -1;
		char *length = strcasestr(s->in, "\ncontent-length:");

		if (length)
			s->length = atoi(length + 16);
		s->edited = strcasestr(s->in, "\nx-request-edit:") != NULL;
		size_t head = end + 4 - s->in;

		memmove(s->in, s->in + head, s->have - head);
		s->have -= head;
		s->skip = s->length;
		if (!s->length && answer(ep, fd) < 0)
			return -1;
	}
}

static void serve(int port)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, ep = epoll_create1(0);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event events[256];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&at, sizeof(at)) || listen(listener, 4096))
		die("listen");
	watch(ep, listener, EPOLLIN, EPOLL_CTL_ADD);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 256, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd, c;

			if (fd == listener) {
				while ((c = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					if (c >= MAX_FD) {
						close(c);
						continue;
					}
					setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
					sessions[c] = calloc(1, sizeof(struct session));
					sessions[c]->in = malloc(BUFFER);
					sessions[c]->out = malloc(BUFFER);
					watch(ep, c, EPOLLIN, EPOLL_CTL_ADD);
				}
			} else if ((events[i].events & EPOLLOUT && flush(ep, fd) < 0) ||
				   (events[i].events & ~EPOLLOUT && converse(ep, fd) < 0)) {
				hang_up(fd);
			}
		}
	}
}

/* --- client ------------------------------------------------------------------------------------------------------ */

enum kind { FAST, DENIED, REWRITTEN, EDITED, SLOW, POSTED, UPLOADED, LARGE, KINDS };
static const char *kinds[] = { "fast", "denied", "rewritten", "edited", "slow", "posted", "uploaded", "large" };
/* how often, of 100 */
static const int share[KINDS] = { 50, 10, 8, 7, 10, 9, 2, 4 };

struct want {
	enum kind kind;
	int status, size;
	char text[300];
};

struct conn {
	int fd, wanted, pipelines;
	char *in;
	size_t have;
	char *out;
	size_t from, to;
	struct want want[2];
};

static long done, asked, limit, counts[KINDS], wrong, unavailable, cut, reconnects;
static unsigned long serial;
static struct sockaddr_in target;

static void ask(struct conn *c, struct want *w)
{
	int at = random() % 100, kind = 0, body = 0, size = 0;
	char path[200];

	while (at >= share[kind])
		at -= share[kind++];
	w->kind = kind;
	w->status = 200;
	serial++;
	switch (kind) {
	case DENIED:
		sprintf(path, "/deny/%lu", serial);
		break;
	case REWRITTEN:
		sprintf(path, "/rewrite/%lu", serial);
		break;
	case EDITED:
		sprintf(path, "/edit/%lu", serial);
		break;
	case SLOW:
		sprintf(path, "/slow/%lu", serial);
		break;
	case POSTED:
		body = 1 + random() % 20000;
		sprintf(path, "/post/%lu", serial);
		break;
	case UPLOADED:
		body = 200000 + random() % 200000;
		sprintf(path, "/post/%lu", serial);
		break;
	case LARGE:
		size = 1000 + random() % 600000;
		sprintf(path, "/big/%d/%lu", size, serial);
		break;
	default:
		sprintf(path, "/a/%lu", serial);
	}
	if (kind == DENIED) {
		w->status = 403;
		strcpy(w->text, "denied");
	} else {
		sprintf(w->text, " %s%s body=%d edited=%d ", kind == REWRITTEN ? "/rewritten" : "",
			kind == REWRITTEN ? path + 8 : path, body, kind == EDITED);
	}
	w->size = size;
	c->to += sprintf(c->out + c->to, "%s %s HTTP/1.1\r\nHost: web\r\nUser-Agent: soak\r\nAccept: */*\r\n", body ? "POST" : "GET",
			 path);
	if (body)
		c->to += sprintf(c->out + c->to, "Content-Length: %d\r\n", body);
	c->to += sprintf(c->out + c->to, "\r\n");
	memset(c->out + c->to, 'x', body);
	c->to += body;
	asked++;
}

static void push(int ep, struct conn *c)
{
	while (c->from < c->to) {
		size_t n = c->to - c->from;
		ssize_t sent;

		/* a message in two pieces, now and then */
		if (random() % 50 == 0 && n > 1)
			n = 1 + random() % (n - 1);
		sent = send(c->fd, c->out + c->from, n, MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EAGAIN)
				watch(ep, c->fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
			return; /* otherwise reading will tell */
		}
		c->from += sent;
	}
	c->from = c->to = 0;
	watch(ep, c->fd, EPOLLIN, EPOLL_CTL_MOD);
}

static void next(int ep, struct conn *c)
{
	if (asked >= limit)
		return;
	c->wanted = 1;
	ask(c, &c->want[0]);
	/* two at a time, now and then; a connection that does so stays on the slow path */
	if (c->pipelines && random() % 20 == 0 && asked < limit) {
		c->wanted = 2;
		ask(c, &c->want[1]);
	}
	push(ep, c);
}

static void open_conn(int ep, struct conn *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(c->fd, (void *)&target, sizeof(target)))
		die("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK))
		die("fcntl");
	c->have = c->from = c->to = 0;
	c->wanted = 0;
	watch(ep, c->fd, EPOLLIN, EPOLL_CTL_ADD);
}

/* 1: a response is complete and right; 0: not all there yet; -1: wrong */
static int check(struct conn *c)
{
	struct want *w = &c->want[0];
	char *end, *body, *length, *space;
	int status, size, total;
	size_t text = strlen(w->text);

	c->in[c->have] = 0;
	end = strstr(c->in, "\r\n\r\n");
	if (!end)
		return 0;
	length = strcasestr(c->in, "\ncontent-length:");
	if (!length || length > end)
		return -1;
	size = atoi(length + 16);
	body = end + 4;
	total = body - c->in + size;
	if (c->have < (size_t)total)
		return 0;
	status = atoi(c->in + 9);
	if (status == 503) {
		unavailable++;
	} else if (status != w->status) {
		return -1;
	} else if (status == 403) {
		if (size != 6 || memcmp(body, w->text, 6))
			return -1;
	} else {
		space = memchr(body, ' ', size);
		if (!space || size < (int)(space - body + text) || memcmp(space, w->text, text))
			return -1;
		if (w->size && size != (w->size > space - body + (int)text ? w->size : space - body + (int)text))
			return -1;
		for (char *p = space + text; p < body + size; p++)
			if (*p != '.')
				return -1;
		if ((strcasestr(c->in, "\nx-response-edit:") != NULL && strcasestr(c->in, "\nx-response-edit:") < end) !=
		    (w->kind == EDITED))
			return -1;
		counts[w->kind]++;
	}
	if (status == 403)
		counts[w->kind]++;
	memmove(c->in, c->in + total, c->have - total);
	c->have -= total;
	c->want[0] = c->want[1];
	c->wanted--;
	done++;
	return 1;
}

static void again(int ep, struct conn *c)
{
	close(c->fd);
	cut += c->wanted;
	done += c->wanted;
	reconnects++;
	open_conn(ep, c);
	next(ep, c);
}

static void load(int connections)
{
	struct conn *conns = calloc(connections, sizeof(*conns)), *by_fd[MAX_FD] = { 0 };
	struct epoll_event events[64];
	int ep = epoll_create1(0);

	for (int i = 0; i < connections; i++) {
		conns[i].in = malloc(BUFFER);
		conns[i].out = malloc(BUFFER);
		conns[i].pipelines = i % 8 == 0;
		open_conn(ep, &conns[i]);
		by_fd[conns[i].fd] = &conns[i];
		next(ep, &conns[i]);
	}
	while (done < limit) {
		int n = epoll_wait(ep, events, 64, STALL_MS);

		if (n == 0) {
			for (int i = 0; i < connections; i++)
				if (conns[i].wanted)
					fprintf(stderr, "stalled: conn %d fd %d wants %s, has %zu bytes\n", i, conns[i].fd,
						conns[i].want[0].text, conns[i].have);
			break;
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = by_fd[events[i].data.fd];
			ssize_t got;
			int verdict;

			if (events[i].events & EPOLLOUT)
				push(ep, c);
			got = recv(c->fd, c->in + c->have, BUFFER - 1 - c->have, 0);
			if (got < 0 && errno == EAGAIN)
				continue;
			if (got <= 0) {
				if (cut < 5)
					fprintf(stderr, "cut: %s, wanted %d: '%s', had %zu bytes\n", got ? strerror(errno) : "end",
						c->wanted, c->wanted ? c->want[0].text : "", c->have);
				again(ep, c);
				by_fd[c->fd] = c;
				continue;
			}
			c->have += got;
			while (c->wanted && (verdict = check(c)) != 0) {
				if (verdict > 0)
					continue;
				wrong++;
				if (wrong < 5)
					fprintf(stderr, "wanted %d '%s', got %.*s\n", c->want[0].status, c->want[0].text,
						(int)(c->have < 300 ? c->have : 300), c->in);
				cut -= c->wanted;
				again(ep, c);
				by_fd[c->fd] = c;
				break;
			}
			if (!c->wanted && c->have) {
				wrong++;
				fprintf(stderr, "%zu bytes too many: %.100s\n", c->have, c->in);
				c->have = 0;
			}
			if (!c->wanted)
				next(ep, c);
		}
	}
	printf("{\"asked\": %ld, \"done\": %ld, \"wrong\": %ld, \"unavailable\": %ld, \"cut\": %ld, \"reconnects\": %ld", asked, done,
	       wrong, unavailable, cut, reconnects);
	for (int k = 0; k < KINDS; k++)
		printf(", \"%s\": %ld", kinds[k], counts[k]);
	puts("}");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp(argv[1], "server")) {
		name = argv[2];
		serve(atoi(argv[3]));
	} else if (argc == 7 && !strcmp(argv[1], "client")) {
		target.sin_family = AF_INET;
		target.sin_port = htons(atoi(argv[3]));
		inet_pton(AF_INET, argv[2], &target.sin_addr);
		limit = atol(argv[5]);
		srandom(atoi(argv[6]));
		load(atoi(argv[4]));
	} else {
		fputs("soak server NAME PORT | soak client ADDRESS PORT CONNECTIONS REQUESTS SEED\n", stderr);
		return 2;
	}
	return 0;
}
