/* SPDX-License-Identifier: MIT */
/* ipc.c - memory, semaphores and queues shared by key; see ipc.h. */
#include "ipc.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ipc.h>

#include "../index/index.h"
#include "target.h"

enum what { SHM, SEM, MSG, N_WHAT };
static const char *const tables[N_WHAT] = {"/proc/sysvipc/shm", "/proc/sysvipc/sem",
					   "/proc/sysvipc/msg"};
static const char *const names[N_WHAT] = {"shared memory", "semaphore set", "message queue"};

/* A line of such a table. */
struct entry {
	int key, id;
	pid_t creator; /* of shared memory; else 0 */
};
struct table {
	struct entry *v;
	size_t n;
};

struct ipc {
	bool used[N_WHAT];
	struct table before[N_WHAT]; /* when the step first made a call of that kind */
	int *made[N_WHAT];	     /* keys that the step was the first to ask for */
	size_t n_made[N_WHAT];
	pid_t *creators; /* processes of the step that may have made shared memory */
	size_t n_creators;
	char text[160];
	_Atomic bool touched;
};

static int read_table(enum what w, struct table *ret)
{
	auto_free char *text = NULL;
	struct err e = {0};
	struct entry *t;
	size_t n;
	int r = read_file(tables[w], &text, &n, &e);

	*ret = (struct table){0};
	if (r < 0)
		return r;
	for (char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
		struct entry x = {0};

		if (sscanf(line, "%d %d %*o %*u %d", &x.key, &x.id, &x.creator) < 2)
			return -EPROTO;
		if (w != SHM)
			x.creator = 0;
		t = xrealloc(ret->v, (ret->n + 1) * sizeof(*t));
		t[ret->n++] = x;
		ret->v = t;
	}
	return 0;
}

static bool has_id(const struct table *t, int id)
{
	for (size_t k = 0; k < t->n; k++)
		if (t->v[k].id == id)
			return true;
	return false;
}

static bool has_key(const struct table *t, int key)
{
	for (size_t k = 0; k < t->n; k++)
		if (t->v[k].key == key)
			return true;
	return false;
}

static bool is_creator(const struct ipc *i, pid_t pid)
{
	for (size_t k = 0; k < i->n_creators; k++)
		if (i->creators[k] == pid)
			return true;
	return false;
}

static bool was_made(const struct ipc *i, enum what w, int key)
{
	for (size_t k = 0; k < i->n_made[w]; k++)
		if (i->made[w][k] == key)
			return true;
	return false;
}

static void note(struct ipc *i, enum what w, const char *how)
{
	if (!i->text[0])
		snprintf(i->text, sizeof(i->text), "System V %s %s", names[w], how);
}

static void get(struct ipc *i, enum what w, const struct table *now, int key, int flags)
{
	if (key == IPC_PRIVATE || was_made(i, w, key))
		return;
	if (has_key(now, key)) {
		note(i, w, "of another process was used");
	} else if (flags & IPC_CREAT) {
		i->made[w] = xrealloc(i->made[w], (i->n_made[w] + 1) * sizeof(int));
		i->made[w][i->n_made[w]++] = key;
	}
}

static void attach(struct ipc *i, const struct table *now, int id)
{
	for (size_t k = 0; k < now->n; k++)
		if (now->v[k].id == id && !is_creator(i, now->v[k].creator))
			note(i, SHM, "of another process was used");
}

void ipc_ask(struct ipc *i, const struct call *c)
{
	enum what w = c->kind == CALL_SEMGET ? SEM : c->kind == CALL_MSGGET ? MSG : SHM;
	struct table now;
	pid_t pid = target_process(c->tid);

	atomic_store(&i->touched, true);
	if (c->kind == CALL_MQ_OPEN) {
		if (!i->text[0])
			snprintf(i->text, sizeof(i->text), "a POSIX message queue was opened");
		return;
	}
	if (read_table(w, &now) < 0) {
		note(i, w, "was used, and cannot be looked into");
		free(now.v);
		return;
	}
	if (c->kind == CALL_SHMAT)
		attach(i, &now, (int)c->arg[0]);
	else
		get(i, w, &now, (int)c->arg[0], (int)c->arg[w == MSG ? 1 : 2]);
	if (c->kind == CALL_SHMGET && !is_creator(i, pid)) {
		i->creators = xrealloc(i->creators, (i->n_creators + 1) * sizeof(pid_t));
		i->creators[i->n_creators++] = pid;
	}
	if (i->used[w]) {
		free(now.v);
	} else {
		i->used[w] = true;
		i->before[w] = now;
	}
}

/* Is it the step's? Who made semaphores and queues is not told: any new one may be. */
static bool is_left(const struct ipc *i, enum what w, const struct entry *x)
{
	if (has_id(&i->before[w], x->id))
		return false;
	return w != SHM || is_creator(i, x->creator);
}

const char *ipc_spoiled(struct ipc *i)
{
	for (int w = 0; w < N_WHAT && !i->text[0]; w++) {
		struct table now;

		if (!i->used[w])
			continue;
		if (read_table((enum what)w, &now) < 0)
			note(i, (enum what)w, "was used, and cannot be looked into");
		for (size_t k = 0; k < now.n; k++)
			if (is_left(i, (enum what)w, &now.v[k]))
				note(i, (enum what)w, "was left behind");
		free(now.v);
	}
	return i->text[0] ? i->text : NULL;
}

const char *ipc_touched(struct ipc *i)
{
	return atomic_load(&i->touched) ? "memory or queues were shared in the step around this one"
					: NULL;
}

struct ipc *ipc_new(void)
{
	return xcalloc(1, sizeof(struct ipc));
}

void ipc_free(struct ipc *i)
{
	if (!i)
		return;
	for (int w = 0; w < N_WHAT; w++) {
		free(i->before[w].v);
		free(i->made[w]);
	}
	free(i->creators);
	free(i);
}
