/* SPDX-License-Identifier: MIT */
/* cmd_completion.c - `mlfs completion`: what lets a shell complete our words, made from the tables of options. */
#include <string.h>

#include "commands.h"
#include "options.h"

struct completion_query {
	struct query q;
};

const struct word_table completion_words = {
	.command = "completion",
	.usage = "[OPTIONS] bash|zsh|fish",
	.what = "Print what lets a shell complete the words of mlfs:\n"
		"  bash   . <(mlfs completion bash)\n"
		"  zsh    mlfs completion zsh >_mlfs, in a directory of $fpath\n"
		"  fish   mlfs completion fish | source\n",
	.status = "Exit status: 0; 2 wrong usage.\n",
	.size = sizeof(struct completion_query),
	.arg = "shell",
	.min_args = 1,
	.max_args = 1,
	.no_config = true,
};

/* ---- the words ---- */

static const struct word_table *table_of(const struct command *c)
{
	for (size_t i = 0; i < n_word_tables; i++)
		if (strcmp(word_tables[i]->command, c->name) == 0)
			return word_tables[i];
	return NULL; /* exec */
}

static bool option_at(const struct command *c, size_t i, struct option_line *ret)
{
	const struct word_table *t = table_of(c);

	return t ? word_option_at(t, i, ret) : exec_option_at(i, ret);
}

enum value { VALUE_NONE, VALUE_ANY, VALUE_FILE, VALUE_DIR, VALUE_WORDS };

/* VALUE_WORDS: *ret_words are they, blanks between (caller frees). */
static enum value value_of(const char *arg, char **ret_words)
{
	const char *words = !arg			 ? NULL
			    : strcmp(arg, "RESULT") == 0 ? "hit|miss|uncached|stored|not-stored"
			    : strchr(arg, '|')		 ? arg
							 : NULL;

	*ret_words = words ? xstrdup(words) : NULL;
	for (char *c = *ret_words; c && *c; c++)
		if (*c == '|')
			*c = ' ';
	if (words || !arg)
		return words ? VALUE_WORDS : VALUE_NONE;
	if (strcmp(arg, "FILE") == 0 || strcmp(arg, "PATH") == 0)
		return VALUE_FILE;
	return strcmp(arg, "DIR") == 0 ? VALUE_DIR : VALUE_ANY;
}

/* What a command's own words can be: "bash|zsh|fish", or NULL. */
static const char *args_of(const struct command *c)
{
	const struct word_table *t = table_of(c);
	const char *last = t && t->max_args ? strrchr(t->usage, ' ') : NULL;

	return last && strchr(last, '|') ? last + 1 : NULL;
}

/* Of those of a kind, each with a mark before and behind it. */
static void print_options(const struct command *c, bool with_value, const char *before,
			  const char *behind)
{
	struct option_line o;

	for (size_t i = 0; option_at(c, i, &o); i++) {
		if (with_value && !o.arg)
			continue;
		printf("%s--%s%s", before, o.name, behind);
		if (o.letter)
			printf("%s-%c%s", before, o.letter, behind);
	}
}

/* In single quotes; `also` are escaped by a backslash. */
static void print_quoted(const char *text, const char *also)
{
	for (; *text; text++) {
		if (*text == '\'')
			printf("'\\'");
		else if (strchr(also, *text))
			putchar('\\');
		putchar(*text);
	}
}

/* ---- bash ---- */

static const char bash_head[] =
	"# bash completion of mlfs; made by `mlfs completion bash`\n"
	"_mlfs_words()\n"
	"{\n"
	"\tmapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
	"}\n"
	"_mlfs_files()\n"
	"{\n"
	"\tcompopt -o filenames 2>/dev/null\n"
	"\tmapfile -t COMPREPLY < <(compgen \"$1\" -- \"$cur\")\n"
	"}\n"
	"# The place of the command that exec is to run, in $first; past the end when it is not there yet.\n"
	"_mlfs_first()\n"
	"{\n"
	"\tfirst=2\n"
	"\twhile [ $first -lt \"$COMP_CWORD\" ]; do\n"
	"\t\tcase ${COMP_WORDS[first]} in\n"
	"\t\t--)\n"
	"\t\t\tfirst=$((first + 1))\n"
	"\t\t\treturn\n"
	"\t\t\t;;\n";
static const char bash_first[] =
	")\n"
	"\t\t\t[ \"${COMP_WORDS[first + 1]}\" != = ] || first=$((first + 1))\n"
	"\t\t\tfirst=$((first + 2))\n"
	"\t\t\t;;\n"
	"\t\t-*) first=$((first + 1)) ;;\n"
	"\t\t=) first=$((first + 2)) ;;\n"
	"\t\t*) return ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\t[[ $cur == -* || $first -gt $COMP_CWORD ]] && first=$((COMP_CWORD + 1))\n"
	"}\n";
static const char bash_begin[] =
	"_mlfs()\n"
	"{\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} first\n"
	"\tCOMPREPLY=()\n"
	"\tif [ \"$cur\" = = ]; then\n"
	"\t\tcur=\n"
	"\telif [ \"$prev\" = = ]; then\n"
	"\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}\n"
	"\tfi\n"
	"\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	"\t\t_mlfs_words '";
static const char bash_exec[] = "--help --version'\n"
				"\t\treturn\n"
				"\tfi\n"
				"\tif [ \"${COMP_WORDS[1]}\" = exec ]; then\n"
				"\t\t_mlfs_first\n"
				"\t\tif [ $first -eq \"$COMP_CWORD\" ]; then\n"
				"\t\t\tmapfile -t COMPREPLY < <(compgen -c -- \"$cur\")\n"
				"\t\t\treturn\n"
				"\t\telif [ $first -lt \"$COMP_CWORD\" ]; then\n"
				"\t\t\tif declare -F _command_offset >/dev/null; then\n"
				"\t\t\t\t_command_offset $first\n"
				"\t\t\telse\n"
				"\t\t\t\t_mlfs_files -f\n"
				"\t\t\tfi\n"
				"\t\t\treturn\n"
				"\t\tfi\n"
				"\tfi\n"
				"\tcase ${COMP_WORDS[1]}:$prev in\n";
static const char bash_end[] = "\tesac\n"
			       "}\n"
			       "complete -F _mlfs mlfs\n";

static void bash_value(const struct command *c, const struct option_line *o)
{
	auto_free char *words = NULL;
	enum value v = value_of(o->arg, &words);

	if (v == VALUE_NONE)
		return;
	printf("\t%s:--%s", c->name, o->name);
	if (o->letter)
		printf(" | %s:-%c", c->name, o->letter);
	printf(") %s%s%s ;;\n",
	       v == VALUE_FILE	? "_mlfs_files -f"
	       : v == VALUE_DIR ? "_mlfs_files -d"
	       : words		? "_mlfs_words '"
				: ":",
	       words ? words : "", words ? "'" : "");
}

static void print_bash(void)
{
	struct option_line o;

	printf("%s\t\t''",
	       bash_head); /* matches nothing that is completed: a place for the bars to follow */
	print_options(&commands[0], true, " | ", "");
	printf("%s%s", bash_first, bash_begin);
	for (size_t i = 0; i < n_commands; i++)
		printf("%s ", commands[i].name);
	printf("%s", bash_exec);
	for (size_t k = 0; k < n_commands; k++)
		for (size_t i = 0; option_at(&commands[k], i, &o); i++)
			bash_value(&commands[k], &o);
	for (size_t k = 0; k < n_commands; k++) {
		const char *args = args_of(&commands[k]);

		printf("\t%s:*) _mlfs_words '", commands[k].name);
		for (const char *a = args; a && *a; a++)
			putchar(*a == '|' ? ' ' : *a);
		print_options(&commands[k], false, " ", "");
		printf("' ;;\n");
	}
	printf("%s", bash_end);
}

/* ---- zsh ---- */

static void zsh_option(const struct option_line *o)
{
	auto_free char *words = NULL;
	enum value v = value_of(o->arg, &words);

	if (o->letter)
		printf("\t\t\t'*'{-%c%s,--%s%s}'[", o->letter, o->arg ? "+" : "", o->name,
		       o->arg ? "=" : "");
	else
		printf("\t\t\t'*--%s%s[", o->name, o->arg ? "=" : "");
	print_quoted(o->help, "[]:\\");
	printf("]");
	if (v != VALUE_NONE) {
		printf(":");
		print_quoted(o->arg, ":\\");
		printf(":%s%s%s",
		       v == VALUE_FILE	? "_files"
		       : v == VALUE_DIR ? "_files -/"
		       : words		? "("
					: " ",
		       words ? words : "", words ? ")" : "");
	}
	printf("' \\\n");
}

static void print_zsh(void)
{
	struct option_line o;

	printf("#compdef mlfs\n# zsh completion of mlfs; made by `mlfs completion zsh`\n_mlfs()\n{\n"
	       "\tlocal curcontext=$curcontext state line\n\tlocal -a known\n"
	       "\tknown=(\n");
	for (size_t i = 0; i < n_commands; i++) {
		printf("\t\t'%s:", commands[i].name);
		print_quoted(commands[i].help, ":\\");
		printf("'\n");
	}
	printf("\t)\n\t_arguments -C '(- *)--help[this text]' '(- *)--version[the version of mlfs]' \\\n"
	       "\t\t'1:command:->command' '*::argument:->argument'\n"
	       "\tif [[ $state = command ]]; then\n\t\t_describe -t commands command known\n"
	       "\t\treturn\n\tfi\n\t[[ $state = argument ]] || return\n\tcase $words[1] in\n");
	for (size_t k = 0; k < n_commands; k++) {
		const char *args = args_of(&commands[k]);

		printf("\t%s)\n\t\t_arguments %s\\\n", commands[k].name,
		       table_of(&commands[k]) ? "" : "-S -A '-*' ");
		for (size_t i = 0; option_at(&commands[k], i, &o); i++)
			zsh_option(&o);
		printf("\t\t\t");
		if (!table_of(&commands[k])) {
			printf("'(-)1:command: _command_names -e' '*::arguments: _normal'\n");
		} else if (args) {
			printf("'1:word:(");
			for (const char *a = args; *a; a++)
				putchar(*a == '|' ? ' ' : *a);
			printf(")'\n");
		} else {
			printf("'*:word: '\n");
		}
		printf("\t\t;;\n");
	}
	printf("\tesac\n}\n_mlfs \"$@\"\n");
}

/* ---- fish ---- */

/* Which word of the line so far begins the command that exec is to run, or may be it; 0: options may still come. */
static const char fish_first[] = "function __mlfs_first\n"
				 "\tset -l words (commandline -opc)\n"
				 "\tset -l i 3\n"
				 "\twhile test $i -le (count $words)\n"
				 "\t\tset -l word $words[$i]\n"
				 "\t\tif test \"$word\" = --\n"
				 "\t\t\tmath $i + 1\n"
				 "\t\t\treturn\n"
				 "\t\telse if contains -- $word";
static const char fish_rest[] =
	"\n"
	"\t\t\tset i (math $i + 2)\n"
	"\t\telse if string match -q -- '-*' $word\n"
	"\t\t\tset i (math $i + 1)\n"
	"\t\telse\n"
	"\t\t\techo $i\n"
	"\t\t\treturn\n"
	"\t\tend\n"
	"\tend\n"
	"\techo 0\n"
	"end\n"
	"function __mlfs_rest\n"
	"\tset -l words (commandline -opc) (commandline -ct)\n"
	"\tset -l i (__mlfs_first)\n"
	"\tset -l line (string join ' ' -- (string escape -- $words[$i..-2]) $words[-1])\n"
	"\tcomplete -C \"$line\"\n"
	"end\n"
	"function __mlfs_command\n"
	"\tset -l word (commandline -ct)\n"
	"\tstring match -q -- '-*' \"$word\"; or complete -C \"$word\"\n"
	"end\n";

static void fish_option(const struct command *c, const struct option_line *o)
{
	auto_free char *words = NULL;
	enum value v = value_of(o->arg, &words);

	printf("complete -c mlfs -n '__mlfs_is %s%s' -l %s", c->name,
	       table_of(c) ? "" : "; and test (__mlfs_first) = 0", o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (v == VALUE_FILE)
		printf(" -r -F");
	else if (v == VALUE_DIR)
		printf(" -x -a '(__fish_complete_directories)'");
	else if (v != VALUE_NONE)
		printf(" -x");
	if (words)
		printf(" -a '%s'", words);
	printf(" -d '");
	print_quoted(o->help, "");
	printf("'\n");
}

static void print_fish(void)
{
	struct option_line o;

	printf("# fish completion of mlfs; made by `mlfs completion fish`\n"
	       "function __mlfs_is\n\tset -l words (commandline -opc)\n"
	       "\ttest (count $words) -gt 1; and test $words[2] = $argv[1]\nend\n"
	       "function __mlfs_no_command\n\ttest (count (commandline -opc)) -eq 1\nend\n"
	       "%s",
	       fish_first);
	print_options(&commands[0], true, " ", "");
	printf("%s"
	       "complete -c mlfs -f\n"
	       "complete -c mlfs -n __mlfs_no_command -l help -s h -d 'this text'\n"
	       "complete -c mlfs -n __mlfs_no_command -l version -d 'the version of mlfs'\n",
	       fish_rest);
	for (size_t k = 0; k < n_commands; k++) {
		const char *args = args_of(&commands[k]);

		printf("complete -c mlfs -n __mlfs_no_command -a %s -d '", commands[k].name);
		print_quoted(commands[k].help, "");
		printf("'\n");
		for (size_t i = 0; option_at(&commands[k], i, &o); i++)
			fish_option(&commands[k], &o);
		if (args) {
			printf("complete -c mlfs -n '__mlfs_is %s' -a '", commands[k].name);
			for (const char *a = args; *a; a++)
				putchar(*a == '|' ? ' ' : *a);
			printf("'\n");
		}
	}
	printf("complete -c mlfs -n '__mlfs_is exec; and test (__mlfs_first) != 0' -x -a "
	       "'(__mlfs_rest)'\n"
	       "complete -c mlfs -n '__mlfs_is exec; and test (__mlfs_first) = 0' -a "
	       "'(__mlfs_command)'\n");
}

/* ---- the command ---- */

static int run(const struct completion_query *w)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++)
		if (strcmp(w->q.args.v[0], shells[i].name) == 0) {
			shells[i].print();
			return printed_status(EXIT_SUCCESS);
		}
	log_warn("'%s' is none of bash, zsh, fish", w->q.args.v[0]);
	return EXIT_USAGE;
}

int cmd_completion(int argc, char **argv)
{
	struct completion_query w = {0};
	int r = words_parse(&completion_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&completion_words, &w);
	return status;
}
