/* SPDX-License-Identifier: MIT */
/*
 * tty.c - terminals: notice that one was read, and stand a pseudo-terminal in front of one.
 *
 * Noticing reads. The step reads the real terminal itself, since keys, modes and signals belong
 * together. Two traces of a read are used:
 *  - inotify's IN_ACCESS on the terminal's inode comes with each read that gave bytes. A read
 *    through /dev/tty shows on that inode instead, which all terminals share;
 *  - the access time: tty_read() sets it on every open inode of the terminal, /dev/tty or not, but
 *    only where the new seconds differ from the old ones in more than their lowest three bits
 *    (tty_update_time). So: read when the first came for the terminal itself, or when its access
 *    time moved; or when /dev/tty was read and the access time could not have shown it. Setting the
 *    access time back beforehand, to make it show everything, would wipe out the trace that another
 *    step on the same terminal relies on. What neither shows: a read that gave no bytes (Control-D
 *    on an empty line), and a wait that came to nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

struct watched {
	int fd;	   /* open on the terminal, so that its access time is kept up; -1: not there */
	int watch; /* inotify; -1: not to be had */
	struct timespec atime;
};
struct tty_watch {
	struct watched in, ctl; /* stdin's terminal; the controlling one */
	int notify, devtty;	/* inotify; its watch of /dev/tty */
	bool has_ctl;
	time_t start;
};

/* The controlling terminal under its own name, since through /dev/tty one sees that inode's
 * times. -1: none, or it has no name here. */
static int open_controlling(bool *ret_has)
{
	auto_close int dev = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	auto_close int fd = -1;
	char path[64], link[256];
	unsigned rdev;
	ssize_t n;

	*ret_has = dev >= 0 || (errno != ENXIO && errno != ENOENT);
	if (dev < 0 || ioctl(dev, TIOCGDEV, &rdev) < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major(rdev), minor(rdev));
	n = readlink(path, link, sizeof(link) - 1);
	if (n > 0) {
		link[n] = '\0';
		(void)snprintf(path, sizeof(path), "/dev/%.50s",
			       strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	} else {
		(void)snprintf(path, sizeof(path), "/dev/pts/%u", minor(rdev));
	}
	fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	/* Only of the controlling terminal does the kernel tell the session; in a container the
	 * same name may be another one. */
	if (fd < 0 || tcgetsid(fd) < 0)
		return -1;
	return take_fd(&fd);
}

static void watch_fd(struct tty_watch *w, struct watched *d)
{
	char path[64];
	struct stat st;

	d->watch = -1;
	if (d->fd < 0 || fstat(d->fd, &st) < 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", d->fd);
	d->watch = inotify_add_watch(w->notify, path, IN_ACCESS);
	/* After the watch: what is read in between shows twice rather than not at all. */
	if (fstat(d->fd, &st) == 0)
		d->atime = st.st_atim;
}

struct tty_watch *tty_watch_begin(bool stdin_is_tty)
{
	struct tty_watch *w = xcalloc(1, sizeof(*w));

	w->in.fd = stdin_is_tty ? STDIN_FILENO : -1;
	w->ctl.fd = open_controlling(&w->has_ctl);
	w->notify = w->devtty = w->in.watch = w->ctl.watch = -1;
	if (!stdin_is_tty && !w->has_ctl)
		return w;
	w->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	w->start = time(NULL); /* not rounded up, like the kernel's */
	if (w->has_ctl)
		w->devtty = inotify_add_watch(w->notify, "/dev/tty", IN_ACCESS);
	watch_fd(w, &w->ctl);
	watch_fd(w, &w->in);
	return w;
}

/* Which watches fired: bit 0 stdin's terminal or the controlling one, bit 1 /dev/tty. */
static unsigned events(struct tty_watch *w)
{
	char block[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	unsigned seen = 0;
	ssize_t n;

	while ((n = read(w->notify, block, sizeof(block))) > 0) {
		for (char *at = block; at < block + n;) {
			const struct inotify_event *ev = (const void *)at;

			if (ev->mask & IN_Q_OVERFLOW)
				seen |= 3;
			else
				seen |= ev->wd == w->devtty ? 2 : 1;
			at += sizeof(*ev) + ev->len;
		}
	}
	return seen;
}

/* Has the access time moved? */
static bool moved(const struct watched *d)
{
	struct stat st;

	if (d->fd < 0)
		return false;
	return fstat(d->fd, &st) < 0 || st.st_atim.tv_sec != d->atime.tv_sec ||
	       st.st_atim.tv_nsec != d->atime.tv_nsec;
}

/* Could a read since the start have left the access time as it was? */
static bool could_hide(const struct tty_watch *w, const struct watched *d)
{
	return d->fd < 0 || (d->atime.tv_sec & ~(time_t)7) >= (w->start & ~(time_t)7);
}

const char *tty_watch_end(struct tty_watch *w)
{
	unsigned seen = events(w);
	/* /dev/tty of any session, or no way to know about it */
	bool devtty = (seen & 2) || w->devtty < 0;

	if ((seen & 1) || moved(&w->in) || moved(&w->ctl))
		return "the terminal was read";
	if (w->in.fd >= 0 && w->in.watch < 0 && could_hide(w, &w->in))
		return "reads of the terminal cannot be noticed";
	if (w->has_ctl && w->ctl.fd >= 0 && w->ctl.watch < 0 && could_hide(w, &w->ctl))
		return "reads of the terminal cannot be noticed";
	if (w->has_ctl && devtty && could_hide(w, &w->ctl))
		return seen & 2 ? "the terminal was read"
				: "reads of the terminal cannot be noticed";
	return NULL;
}

void tty_watch_free(struct tty_watch *w)
{
	if (!w)
		return;
	base_close(&w->ctl.fd); /* in.fd is fd 0 itself */
	base_close(&w->notify);
	free(w);
}

/* ---- a pseudo-terminal ---- */

/* The command's output must reach the record as it was written, and the real terminal turns \n
 * into \r\n by itself. EXTPROC, of no effect without input, has the kernel report each change of
 * modes to the master (packet mode). */
static int set_modes(struct tty_pair *p, int slave)
{
	struct termios t;
	int on = 1;

	if (tcgetattr(p->real, &t) < 0)
		return -errno;
	t.c_oflag &= ~(tcflag_t)OPOST;
	t.c_lflag |= EXTPROC;
	if (tcsetattr(slave, TCSANOW, &t) < 0 || tcgetattr(slave, &p->seen) < 0 ||
	    ioctl(p->master, TIOCPKT, &on) < 0)
		return -errno;
	return 0;
}

int tty_pair_open(struct tty_pair *p, int real, int *ret_slave, struct err *e)
{
	auto_close int master = -1, slave = -1;
	int r;

	*p = (struct tty_pair){.real = real, .master = -1};
	master = stream_above_std(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (master < 0 || unlockpt(master) < 0)
		return err_set(e, master < 0 ? master : errno, "cannot make a pseudo-terminal");
	/* By descriptor: the master may belong to another devpts than the one at /dev/pts. */
	slave = stream_above_std(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (slave < 0)
		return err_set(e, slave, "cannot open the pseudo-terminal");
	p->master = master;
	tty_pair_size(p);
	r = set_modes(p, slave);
	if (r < 0) {
		p->master = -1;
		return err_set(e, r, "cannot set up the pseudo-terminal");
	}
	(void)take_fd(&master); /* p->master */
	*ret_slave = take_fd(&slave);
	return 0;
}

void tty_pair_size(const struct tty_pair *p)
{
	struct winsize size;

	if (ioctl(p->real, TIOCGWINSZ, &size) == 0)
		(void)ioctl(p->master, TIOCSWINSZ, &size); /* a wrong size is no reason to fail */
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag &&
	       memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

/* cfmakeraw() and its like turn OPOST off as well, which does not show since it is off. */
static bool looks_raw(const struct termios *t)
{
	return !(t->c_lflag & (ICANON | ISIG | IEXTEN)) && !(t->c_iflag & (ICRNL | IXON));
}

void tty_pair_mirror(struct tty_pair *p)
{
	struct termios now, real;

	if (tcgetattr(p->master, &now) < 0 || same_modes(&now, &p->seen) ||
	    tcgetattr(p->real, &real) < 0)
		return;
	if (!p->changed)
		p->saved = real;
	p->changed = true;
	p->seen = now;
	real.c_iflag = now.c_iflag;
	real.c_lflag = (now.c_lflag & ~(tcflag_t)EXTPROC) | (real.c_lflag & EXTPROC);
	real.c_oflag = (now.c_oflag & ~(tcflag_t)OPOST) | (p->saved.c_oflag & OPOST);
	if (looks_raw(&now))
		real.c_oflag &= ~(tcflag_t)OPOST;
	memcpy(real.c_cc, now.c_cc, sizeof(real.c_cc));
	(void)tcsetattr(p->real, TCSANOW, &real); /* a terminal that hung up; nobody looks at it */
}

void tty_pair_restore(struct tty_pair *p)
{
	if (p->changed)
		(void)tcsetattr(p->real, TCSANOW, &p->saved); /* as above */
	p->changed = false;
}
