/* SPDX-License-Identifier: MIT */
/* main.c - `mlfs`: finds the command. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "mounted.h"

/*
 * A standard descriptor that is closed is kept busy, so that no file of ours lands on it and is
 * read or written by accident, or is handed to the command. O_PATH: reading and writing it fail
 * with EBADF, as with a closed one; close-on-exec: the command finds it closed, as it would without
 * mlfs.
 */
static int hold_std_fds(void)
{
	int fd;

	do {
		fd = open("/", O_PATH | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	return close(fd);
}

static void help(void)
{
	printf("usage: mlfs COMMAND [OPTIONS] ...\n\n"
	       "A transparent cache for the steps of a pipeline: any command, unchanged.\n\n");
	for (size_t i = 0; i < n_commands; i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].help);
	printf("\n  --help       this text; 'mlfs COMMAND --help' tells more\n"
	       "  --version    the version of mlfs\n");
}

static int unknown(const char *what, const char *word, const char *const *right)
{
	const char *near = nearest_word(word, right);

	if (near)
		log_warn("unknown %s '%s'; did you mean '%s'?", what, word, near);
	else
		log_warn("unknown %s '%s'", what, word);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const char *const flags[] = {"--help", "--version", NULL};
	const char *names[64] = {NULL}; /* more than there will be commands */
	const char *word = argc > 1 ? argv[1] : NULL;

	if (hold_std_fds() < 0) {
		log_warn("cannot hold the standard descriptors: %s", strerror(errno));
		return EXIT_MLFS;
	}
	/* The second: mount.fuse(8). */
	if (strcmp(basename(argv[0] ? argv[0] : ""), "mount.fuse.mlfs") == 0 ||
	    (word && *word == '/' && argc > 2))
		return mount_helper(argc, argv);
	if (!word) {
		log_warn("no command given; 'mlfs --help' lists them");
		return EXIT_USAGE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
		help();
		return printed_status(EXIT_SUCCESS);
	}
	if (strcmp(word, "--version") == 0) {
		printf("mlfs %s\n", MLFS_VERSION);
		return printed_status(EXIT_SUCCESS);
	}
	if (strcmp(word, "--mounted") == 0)
		return cmd_mounted(argc - 1, argv + 1);
	if (strcmp(word, "--mounted-command") == 0)
		return cmd_mounted_command(argc - 1, argv + 1);
	if (*word == '-')
		return unknown("option", word, flags);
	for (size_t i = 0; i < n_commands; i++) {
		if (strcmp(word, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
		names[i] = commands[i].name;
	}
	return unknown("command", word, names);
}
