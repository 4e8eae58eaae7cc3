/* SPDX-License-Identifier: MIT */
/* describe.c - the step that a caller of mlfs asks for: all of its key is made of. */
#include "inherited.h"

int step_of_caller(struct idx *x, const struct exec_opts *o, struct stdin_src **ret_in,
		   struct inherited **ret_passed, struct step *ret, struct err *e)
{
	auto_buf struct buf passed = {0};
	int r = stdin_open(x, ret_in, e);

	if (r == 0)
		r = step_describe(o, stdin_type(*ret_in), stdin_file_fp(*ret_in),
				  stdin_file_off(*ret_in), ret, e);
	if (r == 0)
		r = inherited_open(o->argv, ret_passed, &passed, e);
	if (r == 0 && passed.len)
		step_passes(ret, &passed);
	return r;
}
