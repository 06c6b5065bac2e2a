/* SPDX-License-Identifier: Apache-2.0
 *
 * The server that every contestant of the benchmark talks to: one thread, epoll, HTTP/1.1 keep-alive.
 *
 *   backend ADDRESS PORT NAME
 *
 * GET /bytes/N answers with N bytes; every other target with 100. Request bodies with a Content-Length are
 * read and dropped. The answer carries `x-backend: NAME`. It does as little else as a server can, so
 * that what is measured is the way there and back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 65536
#define IN_SIZE 65536
#define DEFAULT_BODY 100
#define MAX_BODY (16L << 20)

struct conn {
	char in[IN_SIZE + 1];
	size_t in_len;
	size_t skip;      /* request body bytes still to drop */
	char head[256];   /* answer under way */
	size_t head_len, head_sent;
	size_t body_left;
	int writing;
};

static struct conn *conns[MAX_FDS];
static char *payload;
static const char *name;
static int epoll_fd;

static void drop(int fd)
{
	close(fd);
	free(conns[fd]);
	conns[fd] = NULL;
}

static void want(int fd, unsigned events)
{
	struct epoll_event e = { .events = events, .data.fd = fd };
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &e);
}

/* 1: all sent; 0: the socket is full; -1: the peer is gone. */
static int flush(int fd, struct conn *c)
{
	while (c->head_sent < c->head_len || c->body_left) {
		struct iovec v[2];
		int n = 0;
		if (c->head_sent < c->head_len)
			v[n++] = (struct iovec){ c->head + c->head_sent, c->head_len - c->head_sent };
		if (c->body_left)
			v[n++] = (struct iovec){ payload, c->body_left };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = n };
		ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (sent < 0)
			return errno == EAGAIN ? 0 : -1;
		size_t of_head = c->head_len - c->head_sent;
		if ((size_t)sent < of_head)
			of_head = sent;
		c->head_sent += of_head;
		c->body_left -= sent - of_head;
	}
	return 1;
}

static const char *find_header(const char *head, const char *end, const char *header)
{
	size_t n = strlen(header);
	for (const char *p = strstr(head, "\r\n"); p && p < end; p = strstr(p, "\r\n")) {
		p += 2;
		if (!strncasecmp(p, header, n) && p[n] == ':')
			return p + n + 1;
	}
	return NULL;
}

/* Answers what has arrived, one request after the other. -1: close the connection. */
static int serve(int fd, struct conn *c)
{
	for (;;) {
		if (c->skip) {
			size_t n = c->skip < c->in_len ? c->skip : c->in_len;
			memmove(c->in, c->in + n, c->in_len - n);
			c->in_len -= n;
			c->skip -= n;
			if (c->skip)
				return 0;
		}
		c->in[c->in_len] = 0;
		char *end = strstr(c->in, "\r\n\r\n");
		if (!end)
			return c->in_len == IN_SIZE ? -1 : 0;
		const char *target = strchr(c->in, ' ');
		long body = DEFAULT_BODY;
		if (target && !strncmp(target + 1, "/bytes/", 7))
			body = atol(target + 8);
		if (body < 0 || body > MAX_BODY)
			body = DEFAULT_BODY;
		const char *length = find_header(c->in, end, "content-length");
		c->skip = length ? strtoul(length, NULL, 10) : 0;
		c->head_len = snprintf(c->head, sizeof c->head,
				       "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-backend: %s\r\n"
				       "content-length: %ld\r\n\r\n", name, body);
		c->head_sent = 0;
		c->body_left = strncmp(c->in, "HEAD ", 5) ? body : 0;
		size_t used = end + 4 - c->in;
		memmove(c->in, c->in + used, c->in_len - used);
		c->in_len -= used;
		int done = flush(fd, c);
		if (done < 0)
			return -1;
		if (!done) {
			c->writing = 1;
			want(fd, EPOLLOUT);
			return 0;
		}
	}
}

static void on_event(int fd, unsigned events)
{
	struct conn *c = conns[fd];
	if (!c)
		return;
	if (c->writing) {
		int done = events & (EPOLLERR | EPOLLHUP) ? -1 : flush(fd, c);
		if (done < 0) {
			drop(fd);
			return;
		}
		if (!done)
			return;
		c->writing = 0;
		want(fd, EPOLLIN);
		if (serve(fd, c) < 0)
			drop(fd);
		return;
	}
	ssize_t n = recv(fd, c->in + c->in_len, IN_SIZE - c->in_len, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(fd);
		return;
	}
	c->in_len += n;
	if (serve(fd, c) < 0)
		drop(fd);
}

static void accept_all(int listener)
{
	int fd, one = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (fd >= MAX_FDS || !(conns[fd] = calloc(1, sizeof *conns[fd]))) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
	}
}

static int listen_on(const char *address, int port)
{
	int one = 1, v6 = strchr(address, ':') != NULL;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	void *addr = v6 ? (void *)&a6 : (void *)&a4;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1)
		return -1;
	if (bind(fd, addr, v6 ? sizeof a6 : sizeof a4) || listen(fd, 4096))
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	if (argc != 4) {
		fprintf(stderr, "usage: backend ADDRESS PORT NAME\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	name = argv[3];
	payload = malloc(MAX_BODY);
	memset(payload, 'x', MAX_BODY);
	int listener = listen_on(argv[1], atoi(argv[2]));
	if (listener < 0) {
		perror("backend: listen");
		return 1;
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = listener };
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(listener);
			else
				on_event(events[i].data.fd, events[i].events);
		}
	}
}
