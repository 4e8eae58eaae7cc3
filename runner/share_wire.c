/* SPDX-License-Identifier: MIT */
/*
 * share_wire.c - what a step's process and that of a shared cache say to each other; see share.h.
 *
 * Objects come as bytes, never as descriptors or paths: what was received cannot be changed by who sent it, and is no link, fifo or
 * file with a hole of a terabyte.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "share.h"

#define PIECE (1u << 20)

int share_limit(int sock, int seconds)
{
	struct timeval t = {.tv_sec = seconds};

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0 ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0)
		return -errno;
	return 0;
}

void share_address(int dir, const char *name, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%.60s", dir, name);
}

static int send_all(int sock, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t k = send(sock, at, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -ECONNRESET;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

static int recv_all(int sock, void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t k = recv(sock, at, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -ECONNRESET;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int share_send_byte(int sock, char c)
{
	return send_all(sock, &c, 1);
}

int share_recv_byte(int sock, char *ret)
{
	return recv_all(sock, ret, 1);
}

int share_send_frame(int sock, const struct buf *b)
{
	auto_buf struct buf head = {0};
	int r;

	if (b->len > SHARE_MAX_FRAME)
		return -EMSGSIZE;
	buf_u32(&head, (uint32_t)b->len);
	r = send_all(sock, head.data, head.len);
	return r < 0 ? r : send_all(sock, b->data, b->len);
}

int share_recv_frame(int sock, size_t max, struct buf *ret)
{
	uint8_t head[4];
	struct cur c = {head, head + sizeof(head), false};
	int r = recv_all(sock, head, sizeof(head));
	size_t left = r < 0 ? 0 : cur_u32(&c);

	if (r == 0 && left > max)
		r = -EMSGSIZE;
	/* Memory is had as bytes come, not as they are promised. */
	while (r == 0 && left) {
		size_t n = left < PIECE ? left : PIECE;

		buf_reserve(ret, n);
		r = recv_all(sock, ret->data + ret->len, n);
		ret->len += r < 0 ? 0 : n;
		left -= n;
	}
	return r;
}

/* ---- objects ---- */

static int send_object(int sock, struct idx *x, const struct share_object *o, char *piece,
		       struct err *e)
{
	auto_close int fd = store_open(x, &o->oid, o->size, e);
	uint64_t at = 0;
	int r = fd < 0 ? fd : 0;

	while (r == 0 && at < o->size) {
		size_t n = o->size - at < PIECE ? (size_t)(o->size - at) : PIECE;

		if (pread_full(fd, piece, n, (off_t)at) != (ssize_t)n)
			return err_text(e, EUCLEAN, "an object is shorter than it was");
		r = send_all(sock, piece, n);
		if (r < 0)
			return err_set(e, r, "cannot send an object");
		at += n;
	}
	return r;
}

typedef int object_fn(int sock, struct idx *x, const struct share_object *o, char *piece,
		      struct err *e);

static int each_object(int sock, struct idx *x, const struct share_object *v, size_t n,
		       object_fn *fn, struct err *e)
{
	auto_free char *piece = io_alloc(PIECE);
	int r = piece ? 0 : err_set(e, ENOMEM, "cannot make a buffer");

	for (size_t i = 0; r == 0 && i < n; i++)
		r = fn(sock, x, &v[i], piece, e);
	return r;
}

int share_send_objects(int sock, struct idx *x, const struct share_object *v, size_t n,
		       struct err *e)
{
	return each_object(sock, x, v, n, send_object, e);
}

/* By way of a file of the cache that has no name any more. */
static int recv_large(int sock, struct idx *x, uint64_t size, char *piece, struct oid *ret,
		      struct err *e)
{
	auto_free char *path = idx_temp_path(x);
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t had = 0, kept;
	struct fp fp;
	int r = 0;

	if (fd < 0 || unlink(path) < 0)
		return err_set(e, errno, "cannot write into the cache");
	while (r == 0 && had < size) {
		size_t n = size - had < PIECE ? (size_t)(size - had) : PIECE;
		ssize_t k;

		r = recv_all(sock, piece, n);
		if (r < 0)
			return err_set(e, r, "cannot receive an object");
		k = write_all(fd, piece, n);
		r = k < 0 ? err_set(e, (int)k, "cannot write into the cache") : 0;
		had += n;
	}
	return r < 0 ? r : store_put_fd(x, fd, ret, &fp, &kept, e);
}

static int recv_object(int sock, struct idx *x, const struct share_object *o, char *piece,
		       struct err *e)
{
	struct oid oid;
	int r;

	if (o->size > PIECE) {
		r = recv_large(sock, x, o->size, piece, &oid, e);
	} else {
		r = recv_all(sock, piece, (size_t)o->size);
		r = r < 0 ? err_set(e, r, "cannot receive an object")
			  : oid_of(piece, (size_t)o->size, &oid);
		if (r == 0 && oid_eq(&oid, &o->oid))
			r = store_put_mem(x, piece, (size_t)o->size, &oid, e);
	}
	if (r == 0 && !oid_eq(&oid, &o->oid))
		r = err_text(e, EBADMSG, "an object is not the one that was named");
	return r;
}

int share_recv_objects(int sock, struct idx *x, const struct share_object *v, size_t n,
		       struct err *e)
{
	return each_object(sock, x, v, n, recv_object, e);
}
