/* SPDX-License-Identifier: MIT */
/*
 * step.c - the step key: a hash of what is known of a command before it runs. Not in it: what
 * differs between two runs of the same step and is none of its business (time, process ids, the
 * name of the terminal), and the place of the cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "options.h"

/* ---- the name ---- */

struct interpreter {
	const char *glob;
	const char
		*code; /* letters of options behind which comes program text: no script is named */
	const char *values; /* letters of options that take the next word */
	char module;	    /* the option that names a module, or 0 */
};

static const struct interpreter interpreters[] = {
	{"python", "c", "WX", 'm'}, {"python[0-9]*", "c", "WX", 'm'},
	{"pypy*", "c", "WX", 'm'},  {"sh", "c", "oO", 0},
	{"bash", "c", "oO", 0},	    {"dash", "c", "oO", 0},
	{"zsh", "c", "oO", 0},	    {"ksh*", "c", "oO", 0},
	{"perl*", "eE", "I", 0},    {"ruby*", "e", "Ir", 0},
	{"node", "ep", "r", 0},	    {"nodejs", "ep", "r", 0},
	{"Rscript", "e", "", 0},    {"php*", "r", "d", 0},
	{"julia", "eE", "", 0},	    {"lua*", "e", "l", 0},
	{"tclsh*", "", "", 0},	    {"octave*", "", "", 0},
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static const struct interpreter *find_interpreter(const char *base)
{
	for (size_t i = 0; i < sizeof(interpreters) / sizeof(*interpreters); i++)
		if (fnmatch(interpreters[i].glob, base, 0) == 0)
			return &interpreters[i];
	return NULL;
}

/* The script or module among the words after an interpreter, or NULL. */
static const char *find_script(const struct interpreter *in, char *const *args)
{
	for (; *args; args++) {
		const char *word = *args;

		if (word[0] != '-' && word[0] != '+')
			return word;
		if (!word[1])
			return NULL; /* "-": the program is read from standard input */
		if (word[1] == '-') {
			if (!word[2])
				return args[1];
			continue;
		}
		if (in->module && word[1] == in->module)
			return word[2] ? word + 2 : args[1];
		if (strpbrk(word + 1, in->code))
			return NULL;
		/* `-euo pipefail`: in shells the last of several letters may take a word too. */
		if ((!word[2] || in->values[0] == 'o') &&
		    strchr(in->values, word[strlen(word) - 1]) && args[1])
			args++;
	}
	return NULL;
}

char *step_default_name(char *const *argv)
{
	const struct interpreter *in;
	const char *script;

	if (!argv || !argv[0])
		return xstrdup("");
	/* env NAME=VALUE... COMMAND: what it runs is what is meant */
	if (strcmp(base_name(argv[0]), "env") == 0) {
		char *const *word = argv + 1;

		while (*word && (strchr(*word, '=') || **word == '-'))
			word++;
		if (*word)
			return step_default_name(word);
	}
	in = find_interpreter(base_name(argv[0]));
	script = in ? find_script(in, argv + 1) : NULL;
	return xstrdup(base_name(script && *script ? script : argv[0]));
}

/* ---- the environment ---- */

/* Left out of the key unless --env names it. Documented in mlfs-exec(1). */
static const char *const noise[] = {
	"SHLVL",
	"_",
	"OLDPWD",
	"PWD", /* in the key where it is not the working directory: see add_env */
	"MAIL",
	"WINDOWID",
	"WINDOWPATH",
	"TERM_SESSION_ID",
	"TMUX",
	"TMUX_PANE",
	"STY",
	"WINDOW",
	"SSH_AUTH_SOCK",
	"SSH_AGENT_PID",
	"SSH_CLIENT",
	"SSH_CONNECTION",
	"SSH_TTY",
	"XDG_SESSION_*",
	"XDG_RUNTIME_DIR",
	"XDG_SEAT",
	"XDG_VTNR",
	"DBUS_SESSION_BUS_ADDRESS",
	"DISPLAY",
	"WAYLAND_DISPLAY",
	"XAUTHORITY",
	"SESSION_MANAGER",
	"GPG_AGENT_INFO",
	"GPG_TTY",
	"LESSOPEN",
	"LESSCLOSE",
	"INVOCATION_ID",
	"JOURNAL_STREAM",
	"SYSTEMD_EXEC_PID",
	"MLFS_*",
	NULL,
};

/* Of meaning on a terminal only. */
static const char *const terminal_noise[] = {
	"TERM",
	"COLORTERM",
	"COLUMNS",
	"LINES",
	"TERM_PROGRAM",
	"LS_COLORS",
	"TERM_PROGRAM_VERSION",
	"VTE_VERSION",
	NULL,
};

static bool matches_any(const char *const *globs, const char *name)
{
	for (; *globs; globs++)
		if (fnmatch(*globs, name, 0) == 0)
			return true;
	return false;
}

/* How exactly the rules name it: 0 not at all, more for longer globs, most for the plain name.
 * *ret_rule: the rule that does. */
static size_t named(const struct strlist *rules, const char *name, const char **ret_rule)
{
	size_t best = 0;

	for (size_t i = 0; i < rules->n; i++) {
		size_t len = strcspn(rules->v[i], "="), n = 1;
		auto_free char *glob = xstrndup(rules->v[i], len);

		if (fnmatch(glob, name, 0) != 0)
			continue;
		for (const char *c = glob; *c; c++)
			n += *c != '*';
		if (!strchr(glob, '*'))
			n = SIZE_MAX;
		if (n >= best) {
			best = n;
			*ret_rule = rules->v[i];
		}
	}
	return best;
}

/*
 * Is the variable in the key? The rule that names it most exactly decides; --env wins a tie, since
 * a variable too many costs a run and one too few a wrong hit. A rule NAME=VALUE is no variable: it
 * is added by itself.
 */
static bool in_key(const struct exec_opts *o, const struct step *s, const char *name)
{
	const char *rule = NULL, *unused;
	size_t wanted = named(&o->env, name, &rule);
	size_t ignored = named(&o->ignore_env, name, &unused);

	if (wanted && wanted >= ignored)
		return !strchr(rule, '=');
	if (ignored || o->clean_env)
		return false;
	if (matches_any(noise, name))
		return false;
	return s->tty_out || s->tty_err || !matches_any(terminal_noise, name);
}

struct pair {
	char *text; /* NAME=VALUE */
	size_t order;
};

struct env_list {
	struct pair *v;
	size_t n;
};

static void env_add(struct env_list *l, char *text)
{
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n] = (struct pair){text, l->n};
	l->n++;
}

static void env_free(struct env_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].text);
	free(l->v);
}

/* By name; a name that occurs twice keeps its order, since the first is what getenv gives. */
static int by_name(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	size_t n = strcspn(x->text, "="), m = strcspn(y->text, "=");
	int c = memcmp(x->text, y->text, n < m ? n : m);

	if (c == 0 && n != m)
		c = n < m ? -1 : 1;
	if (c == 0)
		c = x->order < y->order ? -1 : x->order > y->order;
	return c;
}

/* MAKEFLAGS without the place of the job server, which is another in each run of make. */
static char *without_jobserver(const char *text)
{
	char *copy = xmalloc(strlen(text) + 1), *to = copy;

	while (*text) {
		size_t n = strcspn(text, " "), blanks = strspn(text + n, " ");

		if (strncmp(text, "--jobserver-auth=", 17) != 0 &&
		    strncmp(text, "--jobserver-fds=", 16) != 0) {
			memcpy(to, text, n + blanks);
			to += n + blanks;
		}
		text += n + blanks;
	}
	while (to > copy && to[-1] == ' ')
		to--;
	*to = '\0';
	return copy;
}

/* A working directory that was reached through a symbolic link is told by `pwd`, so that it is in
 * the key. */
static bool is_other_pwd(const struct exec_opts *o, const struct step *s, const char *entry)
{
	const char *unused;

	if (o->clean_env || strncmp(entry, "PWD=/", 5) != 0 || strcmp(entry + 4, s->cwd) == 0)
		return false;
	return !named(&o->ignore_env, "PWD", &unused) && !named(&o->env, "PWD", &unused);
}

static void add_env(struct env_list *l, const struct exec_opts *o, const struct step *s)
{
	for (char **e = environ; e && *e; e++) {
		auto_free char *name = xstrndup(*e, strcspn(*e, "="));

		if (!is_other_pwd(o, s, *e) && !in_key(o, s, name))
			continue;
		if (strcmp(name, "MAKEFLAGS") == 0 || strcmp(name, "MFLAGS") == 0)
			env_add(l, without_jobserver(*e));
		else
			env_add(l, xstrdup(*e));
	}
	for (size_t i = 0; i < o->env.n; i++)
		if (strchr(o->env.v[i], '='))
			env_add(l, xstrdup(o->env.v[i]));
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), by_name);
}

/* ---- standard streams ---- */

enum stream { STREAM_CLOSED, STREAM_TTY, STREAM_OTHER };

static enum stream stream_of(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/* O_PATH: closed, but kept busy by main */
	if (flags < 0 || (flags & O_PATH))
		return STREAM_CLOSED;
	return isatty(fd) ? STREAM_TTY : STREAM_OTHER;
}

/* Two descriptors of one regular file: do writes to one move the other's offset (or do both
 * append)? */
static bool share_offset(int a, int b)
{
	pid_t self = getpid();
	long r = syscall(SYS_kcmp, self, self, KCMP_FILE, (unsigned long)a, (unsigned long)b);
	int fa = fcntl(a, F_GETFL), fb = fcntl(b, F_GETFL);

	if (fa >= 0 && fb >= 0 && (fa & fb & O_APPEND))
		return true;
	if (r >= 0)
		return r == 0;
	return fa == fb && lseek(a, 0, SEEK_CUR) == lseek(b, 0, SEEK_CUR);
}

static bool are_merged(enum stream out, enum stream err)
{
	struct stat a, b;

	if (out == STREAM_CLOSED || err != out || fstat(STDOUT_FILENO, &a) < 0 ||
	    fstat(STDERR_FILENO, &b) < 0)
		return false;
	if (out == STREAM_TTY)
		return a.st_rdev == b.st_rdev;
	if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return false;
	/* On /dev/null no order is seen: apart, the result can be used for more. */
	if (S_ISCHR(a.st_mode))
		return false;
	return !S_ISREG(a.st_mode) || share_offset(STDOUT_FILENO, STDERR_FILENO);
}

/* ---- the key ---- */

static int by_id(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return x < y ? -1 : x > y;
}

static int put_user(struct buf *b, struct err *e)
{
	auto_free gid_t *groups = NULL;
	mode_t mask = umask(077);
	int n = getgroups(0, NULL);

	(void)umask(mask); /* cannot fail; it was read by setting it */
	if (n < 0)
		return err_set(e, errno, "cannot list the groups");
	groups = xcalloc((size_t)n, sizeof(*groups));
	n = getgroups(n, groups);
	if (n < 0)
		return err_set(e, errno, "cannot list the groups");
	qsort(groups, (size_t)n, sizeof(*groups), by_id);
	buf_u32(b, mask);
	buf_u32(b, geteuid());
	buf_u32(b, getegid());
	buf_u32(b, getuid());
	buf_u32(b, getgid());
	buf_varint(b, (uint64_t)n);
	for (int i = 0; i < n; i++)
		buf_u32(b, groups[i]);
	return 0;
}

static void put_stdin(struct buf *b, enum stdin_type in, const struct fp *fp, int64_t off)
{
	struct stat st;

	buf_u8(b, (uint8_t)in);
	if (in == IN_FILE && fp) {
		buf_bytes(b, fp, sizeof(*fp));
		buf_u64(b, (uint64_t)off);
	}
	/* /dev/zero is not /dev/full */
	if (in == IN_DEVICE && fstat(STDIN_FILENO, &st) == 0) {
		buf_u32(b, major(st.st_rdev));
		buf_u32(b, minor(st.st_rdev));
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_sorted(struct buf *b, const struct strlist *l)
{
	auto_free char **v = xcalloc(l->n, sizeof(*v));

	for (size_t i = 0; i < l->n; i++)
		v[i] = l->v[i];
	qsort(v, l->n, sizeof(*v), by_text);
	buf_varint(b, l->n);
	for (size_t i = 0; i < l->n; i++)
		buf_str(b, v[i]);
}

static void put_env(struct buf *b, const struct exec_opts *o, struct step *s)
{
	__attribute__((cleanup(env_free))) struct env_list l = {0};
	auto_buf struct buf text = {0};

	add_env(&l, o, s);
	buf_varint(b, l.n);
	for (size_t i = 0; i < l.n; i++) {
		buf_str(b, l.v[i].text);
		buf_add(&text, l.v[i].text, strlen(l.v[i].text));
		buf_u8(&text, '\n');
	}
	s->env_note = xstrndup(text.len ? (char *)text.data : "", text.len);
}

static int put_all(struct buf *b, const struct exec_opts *o, struct step *s, struct err *e)
{
	enum stream out = stream_of(STDOUT_FILENO), err = stream_of(STDERR_FILENO);
	struct utsname host;
	int r;

	s->tty_out = out == STREAM_TTY;
	s->tty_err = err == STREAM_TTY;
	s->merged = are_merged(out, err);
	buf_str(b, STEP_VERSION);
	buf_varint(b, (uint64_t)o->argc);
	for (int i = 0; i < o->argc; i++)
		buf_str(b, o->argv[i]);
	buf_str(b, s->cwd);
	put_env(b, o, s);
	r = put_user(b, e);
	if (r < 0)
		return r;
	buf_u8(b, (uint8_t)out);
	buf_u8(b, (uint8_t)err);
	/* Also tells `linux32 make` from `make`. */
	buf_str(b, uname(&host) < 0 ? "" : host.machine);
	buf_u8(b, o->salt && *o->salt); /* an empty one takes back that of mlfs.conf */
	buf_str(b, o->salt ? o->salt : "");
	buf_u8(b, o->strict);
	put_sorted(b, &o->ignore);
	return 0;
}

/* ---- the same for several users ---- */

/* Whose step it is, and where his files are: what is left out of it, since it does not depend on who runs it. */
static const char *const of_user[] = {"HOME", "USER", "LOGNAME", NULL};

/* All variables but noise: which of them a user leaves out of his own keys says nothing of what a step does. */
static void put_shared_env(struct buf *b, const struct step *s)
{
	__attribute__((cleanup(env_free))) struct env_list all = {0};
	const struct exec_opts plain = {0};

	add_env(&all, &plain, s);
	buf_varint(b, all.n);
	for (size_t i = 0; i < all.n; i++) {
		auto_free char *name = xstrndup(all.v[i].text, strcspn(all.v[i].text, "="));

		buf_str(b, matches_any(of_user, name) ? name : all.v[i].text);
	}
}

int step_shared(const struct exec_opts *o, const struct step *s, enum stdin_type in, bool home,
		struct buf *ret)
{
	struct utsname host;
	mode_t mask = umask(077);

	(void)umask(mask); /* cannot fail; it was read by setting it */
	/* Of descriptors passed and of a file that is stdin only fingerprints are known that somebody could forge. */
	if (in == IN_FILE || in == IN_DEVICE || s->description.len < 1 || s->description.data[0])
		return -EOPNOTSUPP;
	buf_str(ret, "mlfs shared step 1");
	buf_varint(ret, (uint64_t)o->argc);
	for (int i = 0; i < o->argc; i++)
		buf_str(ret, o->argv[i]);
	buf_str(ret, s->cwd);
	put_shared_env(ret, s);
	put_sorted(ret, &o->env);
	buf_u32(ret, mask);
	buf_u8(ret, home);
	buf_u8(ret, (uint8_t)stream_of(STDOUT_FILENO));
	buf_u8(ret, (uint8_t)stream_of(STDERR_FILENO));
	buf_u8(ret, (uint8_t)in);
	buf_str(ret, uname(&host) < 0 ? "" : host.machine);
	buf_str(ret, o->salt ? o->salt : "");
	buf_u8(ret, o->strict);
	buf_u8(ret, o->allow_network);
	put_sorted(ret, &o->ignore);
	return 0;
}

int step_describe(const struct exec_opts *o, enum stdin_type in, const struct fp *stdin_file_fp_,
		  int64_t stdin_off, struct step *ret, struct err *e)
{
	auto_buf struct buf b = {0};
	struct step s = {0};
	int r;

	s.cwd = getcwd(NULL, 0);
	if (!s.cwd)
		return err_set(e, errno, "cannot find the working directory");
	r = put_all(&b, o, &s, e);
	if (r < 0) {
		step_free(&s);
		return r;
	}
	put_stdin(&b, in, stdin_file_fp_, stdin_off);
	s.key = fp_of(b.data, b.len);
	buf_varint(&s.description, 0);
	buf_add(&s.description, b.data, b.len);
	s.name = o->name ? xstrdup(o->name) : step_default_name(o->argv);
	*ret = s;
	return 0;
}

void step_passes(struct step *s, const struct buf *passed)
{
	auto_buf struct buf b = {0}, was = s->description;

	buf_add(&b, passed->data, passed->len);
	buf_add(&b, &s->key, sizeof(s->key));
	s->key = fp_of(b.data, b.len);
	s->description = (struct buf){0};
	buf_bytes(&s->description, passed->data, passed->len);
	buf_add(&s->description, was.data + 1, was.len - 1); /* without its 0 */
}

void step_free(struct step *s)
{
	if (!s)
		return;
	free(s->cwd);
	free(s->name);
	free(s->env_note);
	buf_free(&s->description);
	*s = (struct step){0};
}

const char *shown_path(const char *cwd, const char *path)
{
	size_t n = cwd ? strlen(cwd) : 0;

	if (n > 1 && strncmp(path, cwd, n) == 0) {
		if (path[n] == '\0')
			return ".";
		if (path[n] == '/')
			return path + n + 1;
	}
	if (n == 1 && path[0] == '/' && path[1])
		return path + 1;
	return path;
}

/* ---- what is ignored ---- */

bool opts_ignored(const struct exec_opts *o, const char *path)
{
	for (size_t i = 0; i < o->ignore.n; i++)
		if (fnmatch(o->ignore.v[i], path, 0) == 0)
			return true;
	return false;
}

bool opts_ignored_in(const struct exec_opts *o, const char *dir, const char *name)
{
	auto_free char *path = NULL;

	if (!o->ignore.n)
		return false;
	path = xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", name);
	return opts_ignored(o, path);
}
