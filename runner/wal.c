/* SPDX-License-Identifier: MIT */
/* wal.c - SQLite databases with a write-ahead log; see wal.h. */
#include "wal.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Of the database: any of these is locked by who uses it. */
#define SHARED_FIRST INT64_C(0x40000002)
#define SHARED_LAST  (SHARED_FIRST + 509)
/* Of DATABASE-shm: locked by who has mapped it. */
#define SHM_SUFFIX   "-shm"
#define SHM_IN_USE   128

/* The header says how the database is to be read and written: 2 is with a write-ahead log. */
static bool is_database(int fd)
{
	static const char magic[16] = "SQLite format 3";
	char h[20];

	return pread(fd, h, sizeof(h), 0) == sizeof(h) && !memcmp(h, magic, sizeof(magic)) &&
	       h[18] == 2 && h[19] == 2;
}

static bool is_memory(int fd)
{
	const size_t suffix = strlen(SHM_SUFFIX);
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	return n > (ssize_t)suffix && !memcmp(path + n - suffix, SHM_SUFFIX, suffix);
}

bool wal_in_use(int fd, int64_t start, int64_t end)
{
	if (start >= SHARED_FIRST && end <= SHARED_LAST)
		return is_database(fd);
	if (start <= SHM_IN_USE && end >= SHM_IN_USE && end < SHARED_FIRST)
		return is_memory(fd);
	return false;
}
