/* SPDX-License-Identifier: MIT */
/* mountinfo.c - the mounts of this process' namespace; see mountinfo.h. */
#include "mountinfo.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From the kernel's linux/mount.h and asm/unistd.h, which are younger than some C libraries. */
#define CALL_STATMOUNT	   457 /* on each architecture */
#define CALL_LISTMOUNT	   458
#define STATMOUNT_SB_BASIC UINT64_C(1)
#define LSMT_ROOT	   UINT64_MAX
#define FUSE_SUPER_MAGIC   0x65735546u
#define MAX_LISTED	   128 /* with more of them it is not asked one by one */

struct mnt_id_req {
	uint32_t size, spare;
	uint64_t mnt_id, param;
};
/* struct statmount; what follows was not asked for. */
struct statmount_begin {
	uint32_t size, options;
	uint64_t mask;
	uint32_t sb_dev_major, sb_dev_minor;
	uint64_t sb_magic;
	uint64_t rest[60];
};

/* "\040" and the like stand for blanks. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned c;

		if (*s == '\\' && sscanf(s, "\\%3o", &c) == 1) {
			*to++ = (char)c;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static unsigned long flags_of(char *options)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} known[] = {{"nosuid", MS_NOSUID},
		     {"nodev", MS_NODEV},
		     {"noexec", MS_NOEXEC},
		     {"ro", MS_RDONLY}};
	unsigned long flags = 0;
	char *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save))
		for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++)
			if (strcmp(o, known[k].name) == 0)
				flags |= known[k].flag;
	return flags;
}

/* ID PARENT DEVICE ROOT PATH OPTIONS [FIELD…] - TYPE SOURCE OPTIONS */
static bool parse(char *line, struct mountinfo *ret)
{
	char *save = NULL, *field[6], *p, *source, *options;

	for (size_t k = 0; k < sizeof(field) / sizeof(*field); k++) {
		field[k] = strtok_r(k ? NULL : line, " ", &save);
		if (!field[k])
			return false;
	}
	do
		p = strtok_r(NULL, " \n", &save);
	while (p && strcmp(p, "-") != 0);
	p = p ? strtok_r(NULL, " \n", &save) : NULL;
	source = p ? strtok_r(NULL, " \n", &save) : NULL;
	options = source ? strtok_r(NULL, " \n", &save) : NULL;
	if (!p)
		return false;
	unescape(field[4]);
	if (source)
		unescape(source);
	*ret = (struct mountinfo){.id = atoi(field[0]),
				  .parent = atoi(field[1]),
				  .path = xstrdup(field[4]),
				  .type = xstrdup(p),
				  .source = xstrdup(source ? source : ""),
				  .options = xstrdup(options ? options : ""),
				  .flags = flags_of(field[5])};
	return true;
}

void mountinfo_read(struct mountinfos *ret)
{
	auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	struct mountinfo m;
	size_t cap = 0;

	*ret = (struct mountinfos){0};
	while (f && getline(&line, &cap, f) > 0)
		if (parse(line, &m)) {
			ret->v = xrealloc(ret->v, (ret->n + 1) * sizeof(*ret->v));
			ret->v[ret->n++] = m;
		}
}

bool mountinfo_may_have_fuse(void)
{
	struct mnt_id_req req = {.size = sizeof(req), .mnt_id = LSMT_ROOT};
	struct statmount_begin m;
	uint64_t ids[MAX_LISTED];
	long n = syscall(CALL_LISTMOUNT, &req, ids, MAX_LISTED, 0);

	if (n <= 0 || n == MAX_LISTED)
		return true;
	req.param = STATMOUNT_SB_BASIC;
	for (long k = 0; k < n; k++) {
		req.mnt_id = ids[k];
		if (syscall(CALL_STATMOUNT, &req, &m, sizeof(m), 0) < 0 ||
		    !(m.mask & STATMOUNT_SB_BASIC) || m.sb_magic == FUSE_SUPER_MAGIC)
			return true;
	}
	return false;
}

void mountinfo_free(struct mountinfos *m)
{
	for (size_t k = 0; k < m->n; k++) {
		free(m->v[k].path);
		free(m->v[k].type);
		free(m->v[k].source);
		free(m->v[k].options);
	}
	free(m->v);
	*m = (struct mountinfos){0};
}
