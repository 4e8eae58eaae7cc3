/* SPDX-License-Identifier: MIT */
/* ops_attr.c - modes, owners, times, extended attributes, access. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* A directory that an ordinary user may no longer search: what is open below it natively remains so, but in the view the
 * user's server, which goes by path, cannot reach it either. */
static bool keeps_out(struct world *w, int dir, const char *path, mode_t mode)
{
	struct stat st;

	return !w->root && !(mode & 0100) && fstatat(dir, path, &st, AT_EMPTY_PATH) == 0 &&
	       S_ISDIR(st.st_mode);
}

static void op_chmod(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w);
	mode_t mode = pick_mode(w);
	unsigned r = rnd(w, 100);
	int flags = r < 15 ? AT_SYMLINK_NOFOLLOW : r < 18 ? AT_EMPTY_PATH : 0;

	if (chance(w, 60)) /* or soon nothing is within reach any more */
		mode |= 0700;
	say(w, " 0x%x", flags);
	pick_path(w, path);
	if (keeps_out(w, dir, path, mode))
		mode |= 0100;
	if (flags)
		result(w, syscall(SYS_fchmodat2, dir, path, mode, flags));
	else
		result(w, fchmodat(dir, path, mode, 0));
	say_path(w, dir, path);
}

static void op_fchmod(struct world *w)
{
	int slot = pick_slot(w);
	mode_t mode = pick_mode(w);

	if (keeps_out(w, w->fds[slot], "", mode))
		mode |= 0100;
	result(w, fchmod(w->fds[slot], mode));
	say_fd(w, w->fds[slot]);
}

static uid_t pick_id(struct world *w)
{
	static const uid_t ids[] = {1001, 1002, 2000, 2001, 0, 77, (uid_t)-1, (uid_t)-1};
	bool foreign = chance(w, 50);
	uid_t id = pick_of(w, ids);

	if (!w->root) /* others cannot be named in an ordinary user's view: see the table of exceptions */
		id = foreign ? (uid_t)-1 : geteuid();
	say(w, " %d", (int)id);
	return id;
}

/* To set neither owner nor group of another's file fails natively when it has set-id bits. The FUSE request is the
 * same as before a write to it, so that the view cannot refuse it. */
static bool not_own(struct world *w, int dir, const char *path)
{
	struct stat st;

	return fstatat(dir, path, &st, AT_EMPTY_PATH) == 0 && w->uid != 0 && st.st_uid != w->uid;
}

static void op_chown(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w), flags = chance(w, 40) ? AT_SYMLINK_NOFOLLOW : 0;
	uid_t uid = pick_id(w);
	gid_t gid = w->root ? pick_id(w) : (gid_t)-1;

	say(w, " 0x%x", flags);
	pick_path(w, path);
	if (uid == (uid_t)-1 && gid == (gid_t)-1 && not_own(w, dir, path))
		return;
	result(w, fchownat(dir, path, uid, gid, flags));
	say_path(w, dir, path);
}

static void op_fchown(struct world *w)
{
	int slot = pick_slot(w);
	uid_t uid = pick_id(w);
	gid_t gid = w->root ? pick_id(w) : (gid_t)-1;

	if (uid == (uid_t)-1 && gid == (gid_t)-1 && w->fds[slot] >= 0 &&
	    not_own(w, w->fds[slot], ""))
		return;
	result(w, fchown(w->fds[slot], uid, gid));
	say_fd(w, w->fds[slot]);
}

/* ---- times ---- */

static struct timespec pick_time(struct world *w)
{
	static const time_t secs[] = {0, 1, 1000000000, 86400, -5, 1400000000};
	struct timespec t = {.tv_sec = pick_of(w, secs), .tv_nsec = rnd(w, 1000000000)};
	unsigned r = rnd(w, 100);

	if (r < 20)
		t.tv_nsec = UTIME_NOW;
	else if (r < 40)
		t.tv_nsec = UTIME_OMIT;
	else if (r < 42)
		t.tv_nsec = 1000000000;
	say(w, " %lld.%ld", (long long)t.tv_sec, t.tv_nsec);
	return t;
}

static void op_utimens(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w), flags = chance(w, 25) ? AT_SYMLINK_NOFOLLOW : 0;
	struct timespec tv[2];
	bool now = chance(w, 10);
	struct stat st;

	tv[0] = pick_time(w);
	tv[1] = pick_time(w);
	say(w, " 0x%x", flags);
	pick_path(w, path);
	if (result(w, utimensat(dir, path, now ? NULL : tv, flags)) == 0 &&
	    tv[0].tv_nsec < 1000000000 && !now && fstatat(dir, path, &st, flags) == 0)
		say(w, " a%lld.%09ld", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec);
	say_path(w, dir, path);
}

static void op_futimens(struct world *w)
{
	int slot = pick_slot(w);
	struct timespec tv[2];

	tv[0] = pick_time(w);
	tv[1] = pick_time(w);
	result(w, futimens(w->fds[slot], tv));
	say_fd(w, w->fds[slot]);
}

/* ---- looking ---- */

static void op_stat(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w), flags = chance(w, 50) ? AT_SYMLINK_NOFOLLOW : 0;
	struct stat st;

	if (chance(w, 10))
		flags |= AT_EMPTY_PATH;
	say(w, " 0x%x", flags);
	pick_path(w, path);
	if (result(w, fstatat(dir, path, &st, flags)) == 0)
		say_stat(w, &st);
}

static void op_statx(struct world *w)
{
	static const int how[] = {0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC,
				  AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC};
	char path[PATH_MOST];
	int dir = pick_dir(w), flags = pick_of(w, how);
	unsigned mask = rnd(w, 0x1000) & STATX_BASIC_STATS;
	struct statx st;

	say(w, " 0x%x 0x%x", flags, mask);
	pick_path(w, path);
	if (result(w, statx(dir, path, flags | AT_SYMLINK_NOFOLLOW, mask, &st)) < 0)
		return;
	/* More than was asked for may come back. */
	say(w, " got %d", (st.stx_mask & mask) == mask);
	if (mask & STATX_MODE)
		say(w, " 0%o", st.stx_mode);
	if (mask & STATX_SIZE)
		say(w, " %llu", (unsigned long long)st.stx_size);
	if (mask & STATX_NLINK)
		say(w, " n%u", st.stx_nlink);
	if (mask & STATX_UID)
		say(w, " %u", st.stx_uid);
}

static void op_access(struct world *w)
{
	static const int how[] = {0, AT_EACCESS, AT_SYMLINK_NOFOLLOW,
				  AT_EACCESS | AT_SYMLINK_NOFOLLOW};
	char path[PATH_MOST];
	int dir = pick_dir(w), flags = pick_of(w, how), mode = (int)rnd(w, 9);

	say(w, " 0x%x %d", flags, mode);
	pick_path(w, path);
	result(w, faccessat(dir, path, mode, flags));
}

static void op_statvfs(struct world *w)
{
	char path[PATH_MOST];
	struct statvfs v;

	pick_path(w, path);
	if (result(w, statvfs(path, &v)) == 0)
		say(w, " %lu %lu %lu %d %d", v.f_bsize, v.f_frsize, v.f_namemax, v.f_blocks > 0,
		    v.f_files > 0);
}

/* ---- extended attributes ---- */

static const char *pick_xattr(struct world *w, char buf[300])
{
	static const char *const names[] = {"user.a", "user.a",	   "user.a",
					    "user.b", "trusted.t", "security.s"};
	static const char *const bad[] = {"",  "user.",	  "user",    "none.x",
					  "x", "system.", "system.x"};
	unsigned r = rnd(w, 100), k = rnd(w, 7);
	const char *p = pick_of(w, names);

	if (r >= 90 && r < 96)
		p = bad[k];
	if (r >= 96) {
		memset(buf, 'x', 258);
		memcpy(buf, "user.", 5);
		buf[r < 98 ? 255 : 256] = '\0';
		p = buf;
	}
	say(w, " '%.20s'", p);
	return p;
}

static void op_setxattr(struct world *w)
{
	static const int how[] = {0, 0, 0, 0, XATTR_CREATE, XATTR_REPLACE, 3, 4};
	char path[PATH_MOST], name_buf[300];
	unsigned r = rnd(w, 100);
	size_t size = r < 80 ? rnd(w, 200) : r < 92 ? rnd(w, 5000) : r < 97 ? 0 : 65537;
	int flags = pick_of(w, how), slot = pick_slot(w);
	bool by_fd = chance(w, 40), follow = chance(w, 60);
	const char *name = pick_xattr(w, name_buf);

	say(w, " #%zu %d %s", size, flags, by_fd ? "fd" : follow ? "" : "link");
	fill(w, size);
	pick_path(w, path);
	if (by_fd)
		result(w, fsetxattr(w->fds[slot], name, w->buf, size, flags));
	else if (follow)
		result(w, setxattr(path, name, w->buf, size, flags));
	else
		result(w, lsetxattr(path, name, w->buf, size, flags));
	say_path(w, AT_FDCWD, path);
}

static void op_getxattr(struct world *w)
{
	char path[PATH_MOST], name_buf[300];
	size_t size = chance(w, 60) ? IO_MOST : rnd(w, 3) ? rnd(w, 50) : 0;
	bool follow = chance(w, 60);
	const char *name = pick_xattr(w, name_buf);
	ssize_t n;

	say(w, " #%zu", size);
	pick_path(w, path);
	n = result(w, follow ? getxattr(path, name, w->buf, size)
			     : lgetxattr(path, name, w->buf, size));
	if (n > 0 && size)
		say(w, " %016llx", (unsigned long long)hash_bytes(HASH_START, w->buf, (size_t)n));
}

static void op_listxattr(struct world *w)
{
	char path[PATH_MOST];
	int slot = pick_slot(w);
	size_t size = chance(w, 50) ? 0 : rnd(w, 30);
	bool by_fd = chance(w, 40);

	say(w, " #%zu %s", size, by_fd ? "fd" : "");
	pick_path(w, path);
	if (by_fd)
		result(w, flistxattr(w->fds[slot], w->buf, size));
	else
		result(w, llistxattr(path, w->buf, size));
	say_xattrs(w, w->fds[slot]);
}

static void op_removexattr(struct world *w)
{
	char path[PATH_MOST], name_buf[300];
	int slot = pick_slot(w);
	bool by_fd = chance(w, 40), follow = chance(w, 60);
	const char *name = pick_xattr(w, name_buf);

	pick_path(w, path);
	if (by_fd)
		result(w, fremovexattr(w->fds[slot], name));
	else
		result(w, follow ? removexattr(path, name) : lremovexattr(path, name));
}

/* An ACL as the kernel stores it: version 2, entries of tag, rights, id. */
static void op_acl(struct world *w)
{
	char path[PATH_MOST];
	struct {
		uint32_t version;
		struct {
			uint16_t tag, rights;
			uint32_t id;
		} e[5];
	} acl = {2, {{1, 7, ~0u}, {2, 0, 1001}, {4, 0, ~0u}, {0x10, 0, ~0u}, {0x20, 0, ~0u}}};
	bool dflt = chance(w, 40), gone = chance(w, 20);
	const char *name = dflt ? "system.posix_acl_default" : "system.posix_acl_access";

	for (int k = 0; k < 5; k++)
		acl.e[k].rights = (uint16_t)rnd(w, 8);
	say(w, " %s%s", dflt ? "default" : "access", gone ? " gone" : "");
	pick_path(w, path);
	if (!w->root) { /* an ordinary user's view has no ACLs */
		say(w, " -");
		return;
	}
	result(w, gone ? removexattr(path, name) : setxattr(path, name, &acl, sizeof(acl), 0));
	say_path(w, AT_FDCWD, path);
}

const struct op attr_ops[] = {
	{"chmod", 20, op_chmod},
	{"fchmod", 8, op_fchmod},
	{"chown", 12, op_chown},
	{"fchown", 6, op_fchown},
	{"utimens", 10, op_utimens},
	{"futimens", 6, op_futimens},
	{"stat", 20, op_stat},
	{"statx", 8, op_statx},
	{"access", 12, op_access},
	{"statvfs", 2, op_statvfs},
	{"setxattr", 14, op_setxattr},
	{"getxattr", 8, op_getxattr},
	{"listxattr", 5, op_listxattr},
	{"removexattr", 5, op_removexattr},
	{"acl", 6, op_acl},
	{0},
};
