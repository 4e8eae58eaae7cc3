/* SPDX-License-Identifier: MIT */
/* share_rules.c - who may; see share.h. */
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "share.h"

#define BETWEEN ",: \t"

static bool number_is(const char *text, unsigned long id)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && n == id;
}

/* As the user database has it now: who was taken out of a group has lost its rights, whatever his processes still are. */
static bool is_member(const char *group, uid_t uid)
{
	const struct passwd *user = getpwuid(uid);
	auto_free gid_t *list = NULL;
	const struct group *g;
	int n = 0;

	if (!user)
		return false;
	(void)getgrouplist(user->pw_name, user->pw_gid, NULL, &n); /* only counted: -1 */
	list = xcalloc((size_t)n + 1, sizeof(*list));
	n = getgrouplist(user->pw_name, user->pw_gid, list, &n);
	for (int k = 0; k < n; k++) {
		if (number_is(group, list[k]))
			return true;
		g = getgrgid(list[k]);
		if (g && strcmp(g->gr_name, group) == 0)
			return true;
	}
	return false;
}

static bool names(const char *word, uid_t uid)
{
	const struct passwd *user;

	/* What ordinary users stored is for root's steps only where root says just that. */
	if (strcmp(word, "*") == 0)
		return uid != 0;
	if (*word == '@')
		return is_member(word + 1, uid);
	if (number_is(word, uid))
		return true;
	user = getpwuid(uid);
	return user && strcmp(user->pw_name, word) == 0;
}

bool share_names(const struct strlist *who, uid_t uid)
{
	bool found = false;

	for (size_t k = 0; k < who->n && !found; k++) {
		auto_free char *copy = xstrdup(who->v[k]);
		char *rest = copy, *word;

		while (!found && (word = strsep(&rest, BETWEEN)))
			found = *word && names(word, uid);
	}
	return found;
}
