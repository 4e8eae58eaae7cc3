/* SPDX-License-Identifier: MIT */
/*
 * native.h - private to runner/: data in the trees that a view shows natively.
 *
 * What is read there is not seen, and most of it is the state of the machine, which is no input. But people keep
 * data in /dev/shm, desktops mount disks below /run/media, and containers are given secrets below /run/secrets. Of
 * each of these places it is known whether the step used it (touch.h). Elsewhere below /run a step has data when it
 * runs there, or when its command names some.
 */
#ifndef MLFS_NATIVE_H
#define MLFS_NATIVE_H

#include "../fs/fs.h"

struct native;
/* Before the step's process is made. Globs are borrowed: paths that are no inputs. cwd and argv of the step. */
struct native *native_new(char *const *ignore, size_t n_ignore, const char *cwd, char *const *argv);
void native_free(struct native *n);
/* The places, NULL-terminated: the view is to mark them. Borrowed. */
char *const *native_places(const struct native *n);
/* pid is in the namespaces of the view. */
void native_entered(struct native *n, pid_t pid, bool own_user);
/* The step is gone, its mounts are about to be: until this was called, they stay. ask: else every place counts as
 * used. */
void native_left(struct native *n, bool ask);
/* After native_left and fs_serve: adds what may have been read to the trace. Why the result must not be stored, or
 * NULL; valid until freed. */
const char *native_spoiled(struct native *n, struct trace *t);

#endif
