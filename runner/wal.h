/* SPDX-License-Identifier: MIT */
/*
 * wal.h - private to runner/: SQLite databases with a write-ahead log.
 *
 * Their users share memory: each maps DATABASE-shm. Memory that is mapped in a view is not shared
 * with those outside, or in another view: each would write over what the other knows of the log,
 * and the database is soon in ruins. But whoever uses such a database holds locks for reading all
 * the while. Mirrored by locks for writing they let only one view, or those outside, use it at a
 * time; who comes second finds the database locked until the first has closed it.
 *
 * Source: https://www.sqlite.org/fileformat2.html (the header), https://www.sqlite.org/walformat.html,
 * os_unix.c (the bytes).
 */
#ifndef MLFS_WAL_H
#define MLFS_WAL_H

#include "../index/index.h"

/* Is a lock for reading on these bytes of the file, open as fd, one of somebody who uses a database
 * with a write-ahead log? */
bool wal_in_use(int fd, int64_t start, int64_t end);

#endif
