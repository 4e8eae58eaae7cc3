/* SPDX-License-Identifier: MIT */
/* cpus.c - how many processors this process may use: cgroups(7), sched_getaffinity(2); how many threads run: proc_loadavg(5). */
#include "base.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The quota of one group, in whole processors; 0: it has none. */
static unsigned quota_of(const char *group)
{
	static const char *const files[][2] = {{"cpu.max", NULL},
					       {"cpu.cfs_quota_us", "cpu.cfs_period_us"}};
	struct err e = {0};

	for (size_t k = 0; k < 2; k++) {
		auto_free char *path = xasprintf("%s/%s", group, files[k][0]);
		auto_free char *text = NULL, *more = NULL;
		long long quota, period;
		size_t n;

		if (read_file(path, &text, &n, &e) < 0)
			continue;
		if (files[k][1]) {
			free(path);
			path = xasprintf("%s/%s", group, files[k][1]);
			if (read_file(path, &more, &n, &e) < 0 ||
			    sscanf(more, "%lld", &period) != 1 || sscanf(text, "%lld", &quota) != 1)
				return 0;
		} else if (sscanf(text, "%lld %lld", &quota, &period) != 2) {
			return 0; /* "max 100000" */
		}
		if (quota <= 0 || period <= 0)
			return 0;
		return quota < period ? 1 : (unsigned)(quota / period);
	}
	return 0;
}

/* The least quota of the group `path` below root, and of all around it. In a container these may not be there: root is then
 * the container's own group. */
static unsigned least_quota(const char *root, char *path)
{
	unsigned least = 0;

	for (;;) {
		auto_free char *group = xasprintf("%s%s", root, path);
		unsigned n = quota_of(group);
		char *slash = strrchr(path, '/');

		if (n && (!least || n < least))
			least = n;
		if (!slash)
			return least;
		*slash = '\0';
	}
}

unsigned cpus_quota(const char *groups, const char *root)
{
	auto_free char *text = NULL, *old = xasprintf("%s/cpu", root);
	unsigned least = 0;
	struct err e = {0};
	size_t n;

	if (read_file(groups, &text, &n, &e) < 0)
		return 0;
	/* "0::/path", or "4:cpu,cpuacct:/path" of version 1 */
	for (char *at = text, *line; (line = strsep(&at, "\n"));) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		bool v2;
		unsigned k;

		if (!path)
			continue;
		*path++ = '\0';
		v2 = !names[1];
		if (!v2 && strcmp(names + 1, "cpu") != 0 && strncmp(names + 1, "cpu,", 4) != 0)
			continue;
		k = least_quota(v2 ? root : old, path);
		if (k && (!least || k < least))
			least = k;
	}
	return least;
}

static unsigned cpus_affinity(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

unsigned cpus_allowed(void)
{
	unsigned quota = cpus_quota("/proc/self/cgroup", "/sys/fs/cgroup"), n = cpus_affinity();

	return quota && quota < n ? quota : n;
}

unsigned cpus_running(int loadavg)
{
	char text[128];
	ssize_t n = loadavg < 0 ? -1 : pread(loadavg, text, sizeof(text) - 1, 0);
	const char *p = text;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	for (int field = 0; p && field < 3; field++)
		if ((p = strchr(p, ' ')))
			p++;
	return p ? (unsigned)strtoul(p, NULL, 10) : 0;
}

unsigned cpus_idle(void)
{
	auto_close int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	unsigned running = cpus_running(fd), mine = cpus_affinity();
	long all = sysconf(_SC_NPROCESSORS_ONLN); /* whom the others that run may be on */

	if (!running || all < (long)running)
		return 1;
	return (unsigned)all - running + 1 < mine ? (unsigned)all - running + 1 : mine;
}
