/* SPDX-License-Identifier: MIT */
/* browse_texts.h - private to runner/: the texts of a result in `mlfs mount --browse`. */
#ifndef MLFS_BROWSE_TEXTS_H
#define MLFS_BROWSE_TEXTS_H

#include "../fs/fs.h"

/* For browse_options.text. */
int browse_text_of(void *arg, struct idx *x, enum browse_text what, const struct result *r,
		   struct buf *out, struct err *e) must_check;

#endif
