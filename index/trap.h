/* SPDX-License-Identifier: MIT */
/*
 * trap.h - private to index/: faults (SIGSEGV, SIGBUS) of reading a mapped file that is not as LMDB wrote it.
 *
 * A page that was damaged leads LMDB anywhere; a file that was cut short, or a disk that cannot be read, raises SIGBUS. As
 * systemd does for its journals, such a fault is caught. That is sound for what only reads the map: LMDB keeps nothing on
 * the heap and holds no lock then, and its stacks are bounded. A transaction that writes is another matter: there the process
 * ends, see env.c.
 */
#ifndef MLFS_INDEX_TRAP_H
#define MLFS_INDEX_TRAP_H

/* From now on, in this process: faults where nobody waits for them end it, as ever. Neither signal may be blocked while
 * trap_run is at work. A caller that has these signals ignored has no traps. */
void trap_install(void);
/* What fn returns; caught: it raised a fault, and was left where it was. */
int trap_run(int (*fn)(void *arg), void *arg, int caught);
/* As a fault: LMDB has found something that cannot be. Returns when nobody waits. */
void trap_spring(void);
/* Until the same with NULL, what is not trapped by this thread calls this (from a signal handler) and does not return. */
void trap_last(void (*end)(void *arg), void *arg);

#endif
