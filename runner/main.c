/* SPDX-License-Identifier: MIT */
/* main.c - `mlfs`: finds the command. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

#define EXIT_USAGE 2

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

static const struct command commands[] = {
	{"exec", cmd_exec, "run a command, or put in place what it left before"},
	{"fsck", cmd_fsck, "check every record and object of the cache"},
};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

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
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].help);
	printf("\n  --help       this text; 'mlfs COMMAND --help' tells more\n"
	       "  --version    the version of mlfs\n");
}

/* A result that could not be printed is a failure. */
static int done_printing(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_SUCCESS;
	log_warn("cannot write to standard output: %s", strerror(errno));
	return EXIT_USAGE;
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
	const char *names[N_COMMANDS + 1] = {NULL};
	const char *word = argc > 1 ? argv[1] : NULL;

	if (hold_std_fds() < 0) {
		log_warn("cannot hold the standard descriptors: %s", strerror(errno));
		return EXIT_MLFS;
	}
	if (!word) {
		log_warn("no command given; 'mlfs --help' lists them");
		return EXIT_USAGE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
		help();
		return done_printing();
	}
	if (strcmp(word, "--version") == 0) {
		printf("mlfs %s\n", MLFS_VERSION);
		return done_printing();
	}
	if (*word == '-')
		return unknown("option", word, flags);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strcmp(word, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
		names[i] = commands[i].name;
	}
	return unknown("command", word, names);
}
