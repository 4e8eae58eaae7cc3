# SPDX-License-Identifier: MIT
"""generate.py - the random parts of a case: its worlds, the scripts of its steps, how they are run, and what
happens to the world in between. What is made here is plain data (see case.py), so that it can be cut down."""
import random

from tree import Sparse, bare, entry, put_into, text_of

# As scripts spell them, relative to the directory `w` that steps run in; @ stands for the absolute path of the top.
FILES = ['a', 'b', 'c', 'd/a', 'd/b', 'd/s/a', 'e/a', 'e/b', 'm', 'w%FFx%0Ay']
NAMES = FILES + ['d', 'e', 'l', 'o', 't', 'd/s', 'l/a', 'm/b', 'o/a', 'o/b', 'o/s', 'o/s/a', 'k', 'h', 'h.2']
ODD = ['./a', 'd/../b', '../w/c', '@/w/a', '@/w/d/a', '../x', '../y/a', '@/x', 'l/../b', 'k/a', '^', '~', 'o/^', '']
DIRS = ['d', 'd/s', 'e', 'o', '.', 'd/../e', '..', 'l', '@/w/d', '../y']
INNER = ['d', 'd/s', 'e', 'o', 'l', 'd/../e']  # to go into: never so far up that .. leads out of the world
TARGETS = ['a', 'd', '../a', 'nowhere', 'e/a', 'o', 'l', 'm', 'k', '@/w/b', 'd/..', '../w/e']
PROGRAM = b'#!/bin/sh\nread x <a\necho "$x$1"\n'
TEXTS = [b'', b'a', b'b', b'd/a', b'aa', b'one\ntwo\n', b'x' * 5000, b'y' * 5000, b'\0\1\2', b'z' * 200000, PROGRAM]
MODES = [0o644, 0o644, 0o600, 0o755, 0o444, 0o666, 0o200, 0o4755]
DIR_MODES = [0o755, 0o755, 0o755, 0o700, 0o555, 0o300, 0o1777]
XATTRS = ['user.k', 'user.m']
# Just over what is digested when it is only looked at, and when it is replaced unread (fs/trace.c).
SIZES = [(16 << 20) + 1, (64 << 20) + 1]

OPS = [
    (8, 'read P'), (2, 'pread P # 2'), (3, 'probe P'), (1, 'probe P #'), (4, 'lstat P'), (2, 'stat P'), (5, 'list D'),
    (2, 'readlink P'), (4, 'create P one#'), (8, 'write P two#'), (2, 'append P +#'), (2, 'appendc P +#'),
    (2, 'pwrite P 1 #'), (2, 'trunc P 0'), (1, 'trunc P 1'), (4, 'rename P P'), (2, 'rename D D'),
    (1, 'exchange P P'), (1, 'exchange D D'), (1, 'renamenew P P'), (4, 'unlink P'), (3, 'mkdir D 755'),
    (3, 'rmdir D'), (1, 'rmtree D'), (1, 'mkdir D 700'), (2, 'chmod P 640'), (1, 'chmod D 750'), (1, 'chmod D 0'), (1, 'chmod D 555'),
    (1, 'chmod P 0'), (1, 'mapread P'), (2, 'mapwrite P M#'), (3, 'link P P'), (2, 'symlink N P'),
    (1, 'tmpfile D P tmp#'), (2, 'copy P P'), (1, 'send P P'), (1, 'touch P'), (2, 'utime P 1#0000000'), (1, 'hole P'),
    (2, 'open S P r'), (1, 'open S P w'), (1, 'open S P wct'), (1, 'open S P wcx'), (1, 'open S P wa'), (1, 'open S P rn'),
    (1, 'open S D rd'), (1, 'open S P p'), (3, 'fread S 0 100'), (2, 'fwrite S 1 F#'), (1, 'fstat S'), (1, 'ftrunc S #'),
    (1, 'fchmod S 60#'), (1, 'cd I'), (1, 'cwd'), (1, 'umask 0#7'), (1, 'exit #'), (2, 'setx P X v#'), (2, 'getx P X'),
    (1, 'listx P'), (1, 'rmx P X'), (1, 'mkfifo P'), (0.3, 'mksock P'), (1, 'falloc P 10 # 0'), (1, 'falloc P 0 2 3'),
    (1, 'falloc P 0 9000 1'), (1, 'exec P #'), (2, 'read ^'), (1, 'write ^ w#'), (1, 'lstat ~'), (1, 'read ~'),
    (1, 'each D lstat ~'), (1, 'each D read ~'), (1, 'each D unlink ~'), (0.5, 'each D append ~ #'), (2, 'stdin 3'),
    (1, 'stdin'),
]
AS_ROOT = [(1, 'chown P 1#')]
BIG_OPS = [(2, 'trunc P 16777300'), (1, 'trunc P 67108900'), (6, 'lstat P'), (4, 'pread P 5 9'), (4, 'pwrite P 5 #'),
           (4, 'write P n#'), (3, 'rename P P'), (3, 'unlink P'), (2, 'copy P P')]
# Before an operation, and how often.
BEFORE = [(60, ''), (20, 'when K 2'), (4, 'when K 3'), (5, 'child'), (2, 'orphan'), (1.2, 'late')]
# What programs do. Q is one file, R another, of the whole idiom.
IDIOMS = [
    ['write Q.tmp new#', 'rename Q.tmp Q'], ['unlink Q', 'write Q again'], ['rmtree o', 'mkdir o 755', 'write o/a x#'],
    ['mkdir o 755', 'write o/a x#', 'list o'], ['mkdir o 755', 'write o/# x'], ['read Q', 'write Q r#'],
    ['list D', 'create Q x'], ['open 1 Q r', 'unlink Q', 'fread 1 0 99'], ['open 1 Q r', 'rename R Q', 'fread 1 0 99'],
    ['write t 1', 'read t', 'unlink t'], ['link Q R', 'unlink Q'], ['list .', 'mkdir o 755', 'list .'],
    ['rename D n', 'write n/a n', 'rename n D'], ['rename d o', 'mkdir d 755', 'write d/a new'],
    ['probe Q', 'when 0 2 unlink Q', 'write Q v'], ['chmod Q 600', 'write Q v', 'chmod Q 644'],
    ['read Q', 'when 0 2 read R', 'when 1 2 list D'], ['unlink l', 'symlink N l'],
    ['write Q.tmp v#', 'utime Q.tmp 5000000#', 'rename Q.tmp Q'], ['read Q', 'read ^', 'write ^.out v#'],
    ['list D', 'read ~', 'write o.# v'], ['stdin', 'write Q #'], ['link Q R', 'pwrite R 0 #', 'read Q'],
    ['unlink Q', 'link R Q', 'append Q +'], ['write Q v#', 'setx Q user.k v', 'getx Q user.k'],
    ['bg write p1 x#', 'bg read a', 'bg write p2 ^', 'write p3 v', 'wait', 'read p1'],
    ['bg append p1 x', 'bg pwrite p2 0 y', 'lstat b', 'wait', 'list .'], ['mkdir o 755', 'child write o/a x', 'late write o/b y'],
    ['mkdir o 755', 'each d copy ~ o/^', 'list o'], ['lstat Q', 'unlink Q'], ['lstat Q', 'write Q n'],
    ['mkdir o 700', 'write o/a x', 'chmod o 0'], ['chmod d 555', 'rename D d/n', 'link Q d/h', 'mkdir d/s 755', 'unlink d/a', 'chmod d 755'],
    ['rename Q d/b', 'write d/b v#'], ['setx Q user.k v', 'rename R Q'], ['rmdir D', 'setx D user.k v#', 'listx D'], ['stat Q', 'when 0 2 write R v', 'when 1 2 unlink R', 'lstat R'],
    ['read Q', 'write R v#', 'exec R #'], ['probe t', 'create t 1', 'read Q', 'unlink t'], ['rmdir o', 'mkdir o 755'],
    ['open 1 Q r', 'write Q.n x#', 'rename Q.n Q', 'fread 1 0 9'], ['read Q', 'exchange Q R', 'read R'],
    ['write h v#', 'link h h.2'], ['link Q h', 'lstat h'], ['link Q h', 'append Q +'], ['unlink h', 'link Q h', 'unlink Q'],
    ['write h v#', 'link h o/h', 'rename h R'], ['link Q h', 'rename h R', 'read R'], ['rename Q R', 'lstat Q'], ['stdin 3'],
    ['stdin', 'stdin 9'], ['append Q +', 'unlink Q'], ['append Q +#', 'write Q.n x', 'rename Q.n Q'], ['chmod Q 600', 'unlink Q', 'link R Q'],
    ['open 1 Q w', 'unlink Q', 'fwrite 1 0 U#'], ['read Q', 'unlink Q'], ['read Q', 'rename Q R'], ['lstat Q', 'rename Q Q.old'], ['listx Q', 'setx Q user.m v'],
    ['readlink l', 'unlink l', 'symlink a l', 'read l'], ['setx Q user.k v#'], ['copy Q R', 'chmod R 755', 'exec R #'],
]


class Random(random.Random):
    # ---- scripts ----

    def path(self):
        return self.choice(NAMES if self.random() < 0.6 else FILES if self.random() < 0.85 else ODD) or '-'

    def fill(self, text, fixed=()):
        """The operation with a choice for each letter that stands for one."""
        out = []
        for word in text.split(' '):
            head, dot, tail = word.partition('.')
            if head in dict(fixed):
                word = dict(fixed)[head] + dot + tail
            elif word == 'P':
                word = self.path()
            elif word == 'D' and text.startswith('chmod D 0'):
                word = self.choice(INNER)  # a closed way into the working directory: see docs/design.md
            elif word in ('D', 'I', 'N', 'X', 'S', 'K'):
                word = self.choice({'D': DIRS, 'I': INNER, 'N': TARGETS, 'X': XATTRS, 'S': '12', 'K': '01'}[word])
            out.append(word)
        return ' '.join(out)

    def weighted(self, table):
        return self.choices([x for _, x in table], [n for n, _ in table])[0]

    def op(self, ops):
        before = self.fill(self.weighted(BEFORE))
        return f'{before} {self.fill(self.weighted(ops))}'.strip()

    def two_files(self, linked):
        """For an idiom; often names of one file, where there are such."""
        if len(linked) > 1 and self.random() < 0.4:
            return self.sample(linked, 2)
        return self.choice(FILES + ['o', 'o/a', 'd', 'e']), self.choice(FILES + ['o/b', 't'])

    def script(self, root, big, world):
        ops, lines = OPS + AS_ROOT * root + BIG_OPS * big, []
        linked = [f for f in FILES + ['../x', '../y/a'] if in_tree(f) in world and world[in_tree(f)].group]
        for _ in range(self.randint(2, 9)):
            if self.random() < 0.35:
                q, r = self.two_files(linked)
                fixed = (('Q', q), ('R', r), ('D', self.choice(DIRS)))
                lines += [self.fill(text, fixed) for text in self.choice(IDIOMS)]
            else:
                lines.append(self.op(ops))
        return lines

    # ---- worlds ----

    def content(self, big=False):
        if big and self.random() < 0.3:
            return Sparse(self.choice(SIZES), ((0, b'head' + b'\0' * 4092), (8 << 20, b'mid' + b'\0' * 4093)))
        return self.choice(TEXTS)

    def world(self, big):
        tree = {b'': entry('d', 0o755), b'w': entry('d', 0o755)}
        for d in ['d', 'd/s', 'e', '../y']:
            if self.random() < 0.7:
                put_into(tree, in_tree(d), entry('d', self.choice(DIR_MODES[:5])))
        for f in FILES + ['../x', '../y/a']:
            if self.random() < 0.55:
                put_into(tree, in_tree(f), entry('f', self.choice(MODES), self.content(big)))
        for name in 'lmk':
            if self.random() < 0.4:
                put_into(tree, in_tree(name), entry('l', 0, self.choice(TARGETS).encode()))
        if self.random() < 0.1:
            put_into(tree, in_tree(self.choice(NAMES)), entry(self.choice('ps'), 0o644))
        names = [p for p in tree if tree[p].kind == 'f']
        if len(names) > 2 and self.random() < 0.35:
            some = sorted(self.sample(names, self.choice([2, 2, 3])))
            for p in some:
                tree[p] = tree[some[0]]._replace(group=some[0])
        for p in names:
            if self.random() < 0.06 and tree[p].group is None:
                tree[p] = tree[p]._replace(xattrs=((self.choice(XATTRS), 'w'),))
        return tree

    # ---- how a case goes ----

    def stdin(self):
        kind = self.choice(['null'] * 12 + ['file', 'file', 'pipe', 'pipe', 'pipe', 'socket', 'closed'])
        if kind in ('null', 'closed'):
            return {'kind': kind}
        data = self.choice(['', 'abc', 'abcdef', 'b\nab', 'x' * 70000])
        return {'kind': kind, 'data': data, 'off': self.choice([0, 0, 2]) if kind == 'file' else 0}

    def habits(self, world):
        """What the runs of one case have in common, mostly."""
        options = ['--cache-failures']
        if self.random() < 0.08:
            options.append('--strict')
        if self.random() < 0.1:
            shared = [text_of(p) for p in sorted(world) if world[p].group and p.isascii() and b'\n' not in p]
            options += ['--ignore', '*/' + self.choice(shared or ['w/c', 'w/d/b', 'w/o/*'])]
        return {'options': options, 'stdin': self.stdin()}

    def run_event(self, n_scripts, habits):
        options, stdin = habits['options'], habits['stdin']
        if self.random() < 0.08:
            options = self.choice([[], ['--cache-failures', '--strict'], ['--cache-failures', '--refresh'],
                                   ['--no-cache'], ['--cache-failures', '--read-only'], ['--cache-failures']])
        if stdin['kind'] != 'null' and self.random() < 0.5:
            stdin = self.stdin()
        return {'do': 'run', 'script': self.randrange(n_scripts), 'options': options, 'stdin': stdin}

    def change(self, tree, touched, named, runs, n_scripts):
        """One change of the world, as a person or another program makes it; mostly of what steps changed or name."""
        paths = sorted(p for p in tree if p not in (b'', b'w'))
        near = self.choice([touched, touched, named, named, paths])
        paths = [p for p in near if p in tree and p not in (b'', b'w')] or paths
        # What a script does side by side, wherever that is, must not be the same file.
        paths = [p for p in paths if p.rpartition(b'/')[2] not in (b'p1', b'p2', b'p3')]
        files = [p for p in paths if tree[p].kind == 'f']
        some = lambda v: text_of(self.choice(v))
        new = text_of(in_tree(self.choice(NAMES)))
        kind = self.choice(['restore'] * 9 + ['flip', 'edit', 'edit', 'remove', 'remove', 'remove', 'chmod', 'touch', 'link',
                                              'move', 'move', 'make', 'make', 'native', 'hard', 'unshare', 'share', 'copy',
                                              'setx', 'special', 'truncate', 'utime'])
        if kind == 'restore' and runs:
            return {'do': kind, 'run': self.choice(runs)}
        if kind in ('flip', 'unshare', 'truncate') and files:
            return {'do': kind, 'path': some(files)}
        if kind == 'edit' and files:
            return {'do': kind, 'path': some(files), 'data': text_of(self.choice(TEXTS)), 'keep': self.random() < 0.4}
        if kind in ('remove', 'touch') and paths:
            return {'do': kind, 'path': some(paths)}
        if kind == 'chmod' and paths:
            p = self.choice(paths)
            return {'do': kind, 'path': text_of(p), 'mode': self.choice(DIR_MODES if tree[p].kind == 'd' else MODES)}
        if kind == 'link':
            return {'do': kind, 'path': text_of(in_tree(self.choice(['l', 'm', 'k', 'o', 'a', 'd']))), 'to': self.choice(TARGETS)}
        if kind in ('move', 'hard', 'copy', 'share') and paths:
            to = new if self.random() < 0.6 or kind == 'share' else some(paths)
            if kind == 'share':  # two names of one file that are as they were apart
                same = [(p, q) for p in files for q in files if p < q and bare(tree[p]) == bare(tree[q])]
                if same:
                    p, q = self.choice(same)
                    return {'do': 'hard', 'path': text_of(p), 'to': text_of(q)}
                kind = 'copy'
            return {'do': kind, 'path': some(paths), 'to': to}
        if kind == 'native':
            return {'do': kind, 'script': self.randrange(n_scripts)}
        if kind == 'setx' and files:
            return {'do': kind, 'path': some(files), 'name': self.choice(XATTRS), 'value': self.choice('vw')}
        if kind == 'utime' and files:
            return {'do': kind, 'path': some(files), 'mtime': self.choice([7, 8]) * 10**16}
        if kind == 'special':
            return {'do': kind, 'path': new, 'kind': self.choice('ps')}
        if kind == 'make' and self.random() < 0.3:
            return {'do': 'mkdir', 'path': new}
        return {'do': 'make', 'path': new, 'data': text_of(self.choice(TEXTS))}


def names_in(scripts):
    """The paths that scripts name, sorted."""
    words = {w for lines in scripts for line in lines for w in line.split(' ')[1:]}
    return sorted({in_tree(w.replace('@/', '../', 1)) for w in words if not set(w) & set('^~#')})


def in_tree(name):
    """The path in the tree of a name that a script uses."""
    text = name.replace('%FF', '\udcff').replace('%0A', '\n')
    text = text[3:] if text.startswith('../') else 'w/' + text
    return text.encode(errors='surrogateescape')
