/* SPDX-License-Identifier: MIT */
/*
 * browse_data.c - contents, links and extended attributes of the tree.
 *
 * An open file has a descriptor of its object, so it can be read to its end whatever becomes of the result; bytes go from
 * there to the kernel without being copied here (splice).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "browse.h"

/* An open file. */
struct opened {
	int fd;		 /* of the object, or -1 */
	struct buf text; /* else: all of it */
	/* One stream of the console's object: where reading is. */
	struct shown *s;
	uint8_t stream; /* 1, 2; 0: the object as it is */
	pthread_mutex_t mutex;
	size_t chunk;
	uint64_t chunk_off, object_off; /* of that chunk, in the stream and in the object */
};

static void opened_free(struct browse *b, struct opened *o)
{
	if (!o)
		return;
	base_close(&o->fd);
	buf_free(&o->text);
	shown_put(b, o->s);
	(void)pthread_mutex_destroy(&o->mutex);
	free(o);
}

/* ---- opening ---- */

static int open_stream(struct idx *x, struct opened *o, struct shown *s, uint8_t stream,
		       struct err *e)
{
	const struct result *r = s->r;

	if (!s->stream[stream - 1])
		return 0; /* an empty text */
	o->fd = store_open(x, &r->console_oid, r->console_len, e);
	if (o->fd < 0)
		return o->fd;
	if (s->stream[stream - 1] != r->console_len)
		o->stream = stream;
	return 0;
}

static int open_in(struct browse *b, struct idx *x, struct node *n, struct shown *s,
		   struct opened *o, struct fuse_file_info *fi, struct err *e)
{
	const struct output *out;
	const struct buf *text;
	size_t first;
	int r = 0;

	if (n->at.kind == NODE_TEXT && (n->at.text == TEXT_STDOUT || n->at.text == TEXT_STDERR))
		return open_stream(x, o, s, n->at.text == TEXT_STDOUT ? 1 : 2, e);
	if (n->at.kind == NODE_TEXT) {
		r = shown_text(b, x, s, n->at.text, &text, e);
		if (r == 0)
			buf_add(&o->text, text->data, text->len);
		return r;
	}
	out = n->at.kind == NODE_OUTPUT ? output_at(s->r, n->at.path, &first) : NULL;
	if (!out || out->now.type != OUT_FILE)
		return -ESTALE;
	o->fd = store_open(x, &out->oid, out->now.size, e);
	if (o->fd < 0)
		return o->fd;
	(void)pthread_mutex_lock(&b->mutex);
	if (!n->opened)
		n->opened = xcalloc(1, sizeof(*n->opened));
	/* Else it has become another one's. */
	fi->keep_cache = oid_eq(&n->opened->seen, &out->oid);
	n->opened->seen = out->oid;
	(void)pthread_mutex_unlock(&b->mutex);
	return 0;
}

/* What is missing or damaged in the cache is an error of its disk, as it seems here. */
static int open_error(int r)
{
	return r == -ENOENT || r == -EUCLEAN ? -EIO : r;
}

/* st: NULL: one less has it open. */
static void opened_as(struct browse *b, struct node *n, const struct stat *st, int change)
{
	(void)pthread_mutex_lock(&b->mutex);
	if (!n->opened)
		n->opened = xcalloc(1, sizeof(*n->opened));
	n->opened->opens += (unsigned)change;
	if (st)
		n->opened->st = *st;
	(void)pthread_mutex_unlock(&b->mutex);
}

static int open_node(struct browse *b, struct node *n, struct opened *o, struct fuse_file_info *fi)
{
	struct stat st;
	struct idx *x;
	struct err e = {0};
	int r = browse_index(b, &x, &e);

	if (r < 0)
		return r;
	r = shown_get(b, x, &n->at.key, &o->s, &e);
	r = r < 0 ? r : r == 0 ? -ESTALE : open_in(b, x, n, o->s, o, fi, &e);
	if (r == 0)
		r = browse_stat(b, x, &n->at, n->ino, &st);
	browse_index_done(b);
	if (r == 0)
		opened_as(b, n, &st, 1);
	if (r < 0 && e.code)
		log_debug("%s", e.msg);
	return open_error(r);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct browse *b = fuse_req_userdata(req);
	struct opened *o;
	int r;

	browse_count(b, BROWSE_OPEN);
	if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		(void)fuse_reply_err(req, EROFS); /* the kernel may be gone: nobody to tell */
		return;
	}
	o = xcalloc(1, sizeof(*o));
	o->fd = -1;
	(void)pthread_mutex_init(&o->mutex, NULL); /* cannot fail on Linux */
	r = open_node(b, browse_node(b, ino), o, fi);
	fi->fh = (uintptr_t)o;
	if (r == 0 && fuse_reply_open(req, fi) == 0)
		return;
	if (r < 0)
		(void)fuse_reply_err(req, -r); /* likewise */
	else
		opened_as(b, browse_node(b, ino), NULL, -1);
	opened_free(b, o);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	opened_as(fuse_req_userdata(req), browse_node(fuse_req_userdata(req), ino), NULL, -1);
	opened_free(fuse_req_userdata(req), (struct opened *)(uintptr_t)fi->fh);
	(void)fuse_reply_err(req, 0); /* likewise */
}

/* ---- reading ---- */

/* The chunk that has the offset `off` of the stream, or is behind its end. */
static void seek_chunk(struct opened *o, uint64_t off)
{
	const struct result *r = o->s->r;

	if (off < o->chunk_off) {
		o->chunk = 0;
		o->chunk_off = o->object_off = 0;
	}
	while (o->chunk < r->n_chunks) {
		const struct console_chunk *c = &r->chunks[o->chunk];
		bool mine = c->fd == o->stream;

		if (mine && off < o->chunk_off + c->len)
			break;
		o->chunk_off += mine ? c->len : 0;
		o->object_off += c->len;
		o->chunk++;
	}
}

static ssize_t read_stream(struct opened *o, char *to, size_t size, uint64_t off)
{
	const struct result *r = o->s->r;
	size_t done = 0;

	while (done < size) {
		uint64_t within;
		ssize_t k;
		size_t n;

		seek_chunk(o, off + done);
		if (o->chunk == r->n_chunks)
			break;
		within = off + done - o->chunk_off;
		n = (size_t)(r->chunks[o->chunk].len - within);
		n = n < size - done ? n : size - done;
		k = pread_full(o->fd, to + done, n, (off_t)(o->object_off + within));
		if (k < 0)
			return k;
		done += (size_t)k;
		if ((size_t)k < n)
			break; /* the object was cut */
	}
	return (ssize_t)done;
}

static void reply_stream(fuse_req_t req, struct opened *o, size_t size, off_t off)
{
	auto_free char *to = io_alloc(size);
	ssize_t n;

	if (!to) {
		(void)fuse_reply_err(req, ENOMEM); /* as above */
		return;
	}
	(void)pthread_mutex_lock(&o->mutex);
	n = read_stream(o, to, size, (uint64_t)off);
	(void)pthread_mutex_unlock(&o->mutex);
	if (n < 0)
		(void)fuse_reply_err(req, (int)-n); /* as above */
	else
		(void)fuse_reply_buf(req, to, (size_t)n); /* as above */
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct opened *o = (struct opened *)(uintptr_t)fi->fh;
	struct fuse_bufvec v = FUSE_BUFVEC_INIT(size);
	size_t at = (size_t)off;

	(void)ino;
	browse_count(fuse_req_userdata(req), BROWSE_READ);
	if (o->stream) {
		reply_stream(req, o, size, off);
	} else if (o->fd >= 0) {
		v.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		v.buf[0].fd = o->fd;
		v.buf[0].pos = off;
		(void)fuse_reply_data(req, &v, 0); /* as above */
	} else {
		at = at < o->text.len ? at : o->text.len;
		size = size < o->text.len - at ? size : o->text.len - at;
		(void)fuse_reply_buf(req, size ? (const char *)o->text.data + at : NULL,
				     size); /* as above */
	}
}

/* ---- links, extended attributes ---- */

/* 0 and the output of n, as long as *ret_s is held. */
static int output_of(struct browse *b, const struct node *n, struct shown **ret_s,
		     const struct output **ret)
{
	struct idx *x;
	struct err e;
	size_t first;
	int r = browse_index(b, &x, &e);

	if (r < 0)
		return r;
	r = shown_get(b, x, &n->at.key, ret_s, &e);
	browse_index_done(b);
	if (r <= 0)
		return r < 0 ? r : -ESTALE;
	*ret = output_at((*ret_s)->r, n->at.path, &first);
	return 0;
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct browse *b = fuse_req_userdata(req);
	const struct node *n = browse_node(b, ino);
	const struct output *o = NULL;
	struct shown *s = NULL;
	int r;

	browse_count(b, BROWSE_READLINK);
	if (n->at.kind == NODE_LINK) {
		(void)fuse_reply_readlink(req, n->at.target); /* as above */
		return;
	}
	r = n->at.kind == NODE_OUTPUT ? output_of(b, n, &s, &o) : -EINVAL;
	if (r == 0 && (!o || o->now.type != OUT_LINK))
		r = -ESTALE;
	if (r < 0)
		(void)fuse_reply_err(req, -r); /* as above */
	else
		(void)fuse_reply_readlink(req, o->now.target); /* as above */
	shown_put(b, s);
}

/* Size 0 asks for the length. */
static void reply_value(fuse_req_t req, const void *p, size_t n, size_t size)
{
	if (!size)
		(void)fuse_reply_xattr(req, n); /* as above */
	else if (n > size)
		(void)fuse_reply_err(req, ERANGE); /* as above */
	else
		(void)fuse_reply_buf(req, p, n); /* as above */
}

/* The value of a name in a blob; or, without a name, all names. False: it has none. */
static bool blob_find(const void *p, size_t n, const char *wanted, struct buf *ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false};

	while (c.p < c.end) {
		size_t n_name, n_value;
		const void *name = cur_bytes(&c, &n_name), *value = cur_bytes(&c, &n_value);

		if (c.bad)
			return false;
		if (!wanted) {
			buf_add(ret, name, n_name);
			buf_u8(ret, 0);
		} else if (strlen(wanted) == n_name && memcmp(wanted, name, n_name) == 0) {
			buf_add(ret, value, n_value);
			return true;
		}
	}
	return !wanted;
}

static void reply_xattrs(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct browse *b = fuse_req_userdata(req);
	const struct node *n = browse_node(b, ino);
	const struct output *o = NULL;
	auto_buf struct buf value = {0};
	struct shown *s = NULL;
	int r = n->at.kind == NODE_OUTPUT && *n->at.path ? output_of(b, n, &s, &o) : 0;

	if (r < 0)
		(void)fuse_reply_err(req, -r); /* as above */
	else if (!blob_find(o ? o->xattrs : NULL, o ? o->n_xattrs : 0, name, &value))
		(void)fuse_reply_err(req, ENODATA); /* as above */
	else
		reply_value(req, value.data ? (void *)value.data : "", value.len, size);
	shown_put(b, s);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct browse *b = fuse_req_userdata(req);
	auto_free char *answer = NULL;

	browse_count(b, BROWSE_XATTR);
	if (b->o.answer && strncmp(name, FS_ASK_PREFIX, sizeof(FS_ASK_PREFIX) - 1) == 0)
		answer = b->o.answer(b->o.arg, name);
	if (answer)
		reply_value(req, answer, strlen(answer), size);
	else
		reply_xattrs(req, ino, name, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	browse_count(fuse_req_userdata(req), BROWSE_XATTR);
	reply_xattrs(req, ino, NULL, size);
}

void browse_data_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->read = op_read;
	ops->release = op_release;
	ops->readlink = op_readlink;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
}
