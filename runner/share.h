/* SPDX-License-Identifier: MIT */
/*
 * share.h - private to runner/: results of one user of a persistent mount for others (docs/design.md, "One cache for several
 * users").
 *
 * Each user has a cache of his own, and decides in that. The mount's process has one more, DIR/shared, which nobody else may look
 * into, and a process that serves it: who has the right to store gives it what he stored himself; who misses in his own cache asks it.
 * That process looks, as the user who asks, whether he could have read all that a result rests on; then the result goes into
 * that user's own cache, where the lookup finds it.
 *
 * A shared result is an ordinary result in an ordinary cache, but for this: it names the step as share_step says; its states say nothing of
 * owners; paths below the home of who stored it begin with SHARE_HOME; its environment holds lines of mlfs (share_result.c).
 */
#ifndef MLFS_SHARE_H
#define MLFS_SHARE_H

#include "runner.h"

#define SHARE_DIR  "shared" /* below the directory of the caches */
#define SHARE_HOME "/~"	    /* the first part of a path: the home of whoever it is */

/* ---- share_rules.c ---- */

/* Does a list of who may ("ada", "54321", "@builders", "*": everybody but root; commas, colons or blanks between) name this user? */
bool share_names(const struct strlist *who, uid_t uid);

/* ---- share_result.c: from a result to one for others, and back ---- */

/* The home that is meant by SHARE_HOME, or NULL: there is none, or it holds the step (cwd) itself. Caller frees. */
char *share_home(const char *cwd);
/* Why it is not for others, or NULL. uid: whose it is. home: of that user, or NULL; absolute paths below it are no outputs then. */
const char *share_refusal(const struct result *r, const struct path_set *s, uid_t uid,
			  const char *home);
/*
 * A copy of r and s (caller: result_free, path_set_free) without what is only the user's own: its states, with the paths in the order
 * that they have then. from, to: what paths begin with, and are to begin with; NULL: as they are. -EBADMSG.
 */
int share_copy(const struct result *r, const struct path_set *s, const char *from, const char *to,
	       struct result **ret, struct path_set *ret_set) must_check;
/* What is kept with a shared result. */
struct share_note {
	struct oid step;   /* SHA-256 of what the step is */
	struct oid inputs; /* of the path set and the states, by SHA-256 (share_inputs) */
	uid_t uid;	   /* who stored it */
	char *name;	   /* how he is called; caller frees */
};
/* Into r: the note, and the keys. */
int share_sign(struct result *r, const struct path_set *s, const struct share_note *n) must_check;
bool share_note_of(const struct result *r, struct share_note *ret);
/* Into a result for a user's own cache: who stored it. Whoever reads it later: a copy, or NULL. */
char *share_mark(const char *env_note, const char *by);
char *share_marked(const struct result *r);
/* Its objects, each once. Caller frees; how many. */
struct share_object {
	struct oid oid;
	uint64_t size;
};
size_t share_objects(const struct result *r, struct share_object **ret);

/* ---- share_look.c: is what a result rests on there, for the user of this process? ---- */

/* Of files that were read already, for other results that rest on them as well: all zero at first. */
struct share_seen {
	struct share_digests *v;
	size_t n, cap;
};
void share_seen_free(struct share_seen *s);

/*
 * Whether the states of the paths of s (r->states, without owners) are the present ones: all is opened and read. 1 and *ret: what is to
 * be share_note.inputs; 0: no, *ret_why (static) says a reason for who may know it. since: CLOCK_REALTIME ns; contents must be
 * older than that, and then are those that were there at that time; 0: of any time. home: what SHARE_HOME is; or NULL. x: the cache, to know
 * file systems; or NULL. seen: of looks a moment ago.
 */
int share_inputs(struct idx *x, const struct result *r, const struct path_set *s, const char *home,
		 int64_t since, struct share_seen *seen, struct oid *ret,
		 const char **ret_why) must_check;
/* Could this user have made the outputs where they are to be, and may he see them, as they were made? */
bool share_outputs(const struct result *r);

/* ---- share_wire.c: what the two say to each other ---- */

#define SHARE_MAX_FRAME (UINT32_C(64) << 20)
#define SHARE_HELLO	'm' /* the first that is said: by the server */
#define SHARE_YES	'y'
#define SHARE_NO	'n'
#define SHARE_USE	'u'
#define SHARE_STORE	's'
/* -errno; a wait of longer than the socket's limit is -EAGAIN, the other's end -ECONNRESET. */
int share_send_byte(int sock, char c) must_check;
int share_recv_byte(int sock, char *ret) must_check;
int share_send_frame(int sock, const struct buf *b) must_check;
int share_recv_frame(int sock, size_t max, struct buf *ret) must_check;
/* The bytes of objects, one after the other; those that come are compared with their names before they are kept. */
int share_send_objects(int sock, struct idx *x, const struct share_object *v, size_t n,
		       struct err *e) must_check;
int share_recv_objects(int sock, struct idx *x, const struct share_object *v, size_t n,
		       struct err *e) must_check;
int share_limit(int sock, int seconds) must_check;
/* That of a socket in the directory open as dir, however long its path: that of a socket may have 107 bytes. */
struct sockaddr_un;
void share_address(int dir, const char *name, struct sockaddr_un *ret);

/* ---- share_ask.c: the process of a step ---- */

struct share_asker {
	const struct exec_base *base;
	const struct exec_opts *o;
	const struct step *step;
	enum stdin_type in;
	bool *gone; /* nobody answered once: he is not asked, and waited for, again */
};
/* A result of somebody else that would be a hit is in x now, maybe: look again. Trouble is a no. */
bool share_fetch(struct idx *x, const struct share_asker *a);
/* What was stored under key is given to others, where its user may do so. */
void share_offer(struct idx *x, const struct share_asker *a, const struct fp *key);

/* ---- share_serve.c: the process that serves DIR/shared ---- */

struct share_server;
struct share_options {
	const char *cache; /* DIR */
	int root;	   /* of the mounted tree */
	const struct tree_share *rules;
	bool foreground; /* it may say things on standard error */
};
/* Before there are threads. *ret_socket (caller frees): its socket. */
int share_start(const struct share_options *o, struct share_server **ret, char **ret_socket,
		struct err *e) must_check;
void share_stop(struct share_server *s); /* NULL is fine */

#endif
