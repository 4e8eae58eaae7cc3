#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""oracle.py - random steps in random worlds: is what `mlfs exec` does what the step itself would do?

    oracle.py --mlfs FILE --stepper FILE [--case N] [--keep] [-v] [RUNS [SEED]]

A case is a small tree (the world), some scripts for the stepper, and a dozen runs of them with changes of the
world in between: edits with and without the time kept, things that come and go, links pointed elsewhere, outputs
deleted or edited, and going back to how it all was. After each run the console, the status and the tree are
compared with those of the same step run natively in a copy.

A run that is not a hit must be exactly the native one. A hit must be what a native run gives, where outputs of
recorded runs may be taken for absent, or, when that is not it either, for what they were when the result was
recorded (design 4: the earlier state of what a step makes without reading it is not an input).

A missed hit: the world is, in all that is compared, one in which this step was recorded, and yet it ran.
Nothing but the Python standard library is used. Status 1 when a result was wrong.
"""
import argparse
import collections
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time

TIME_LIMIT = 30


# ---- trees ----

def snap(top):
    """path -> (type, mode, content or target, name of the file it is a hard link of)"""
    tree, groups = {}, {}

    def walk(rel):
        full = os.path.join(top, rel) if rel else top
        for name in sorted(os.listdir(full)):
            path = os.path.join(rel, name) if rel else name
            st = os.lstat(os.path.join(top, path))
            mode = stat.S_IMODE(st.st_mode)
            if stat.S_ISLNK(st.st_mode):
                tree[path] = ('l', 0, os.readlink(os.path.join(top, path)), None)
            elif stat.S_ISDIR(st.st_mode):
                tree[path] = ('d', mode, None, None)
                walk(path)
            elif stat.S_ISREG(st.st_mode):
                with open(os.path.join(top, path), 'rb') as f:
                    data = f.read()
                group = None
                if st.st_nlink > 1:
                    group = groups.setdefault((st.st_dev, st.st_ino), path)
                tree[path] = ('f', mode, data, group)
            else:
                tree[path] = ('?', mode, None, None)
    walk(b'')
    # A file whose other names lie elsewhere, or only one is in the tree, has none.
    count = collections.Counter(e[3] for e in tree.values())
    return {p: e if count[e[3]] > 1 else e[:3] + (None,) for p, e in tree.items()}


def build(top, tree):
    os.makedirs(top)
    dirs = []
    for path in sorted(tree, key=lambda p: p.split(b'/')):
        kind, mode, data, group = tree[path]
        full = os.path.join(top, path)
        if kind == 'd':
            os.mkdir(full, 0o700)
            dirs.append((full, mode))
        elif kind == 'l':
            os.symlink(data, full)
        elif group is not None and group != path and group in tree:
            os.link(os.path.join(top, group), full)
        else:
            with open(full, 'wb') as f:
                f.write(data)
            os.chmod(full, mode)
    for full, mode in reversed(dirs):
        os.chmod(full, mode)


def wipe(top):
    if os.path.lexists(top):
        subprocess.run(['rm', '-rf', '--', top], check=True)


def bare(entry):
    """Without hard links."""
    return entry and entry[:3]


def remove_from(tree, path):
    """Without path, if it can be removed."""
    if tree[path][0] == 'd' and any(p.startswith(path + b'/') for p in tree):
        return False
    del tree[path]
    # Who was named after it as a hard link is named after another one.
    others = sorted(p for p in tree if tree[p][3] == path)
    for p in others:
        tree[p] = tree[p][:3] + (others[0] if len(others) > 1 else None,)
    return True


def put_into(tree, path, entry):
    parent = os.path.dirname(path)
    if parent and (parent not in tree or tree[parent][0] != 'd'):
        return False
    if path in tree and not (tree[path][0] == entry[0] == 'd') and not remove_from(tree, path):
        return False
    tree[path] = entry
    return True


# ---- the random parts ----

NAMES = ['a', 'b', 'c', 'd', 'e', 'l', 'm', 'o', 't', 'd/a', 'd/b', 'd/s', 'd/s/a', 'e/a', 'e/b', 'o/a', 'o/b', 'l/a',
         'm/b', 'o/s', 'o/s/a', 'w%FFx%0Ay']
FILES = ['a', 'b', 'c', 'd/a', 'd/b', 'd/s/a', 'e/a', 'e/b', 'm', 'w%FFx%0Ay']
DIRS = ['d', 'd/s', 'e']
TEXTS = [b'', b'A', b'B', b'AA', b'one\ntwo\n', b'x' * 5000, b'y' * 5000, b'\0\1\2', b'z' * 200000]
MODES = [0o644, 0o600, 0o755, 0o444, 0o666]

OPS = [
    (8, 'read P'), (2, 'pread P # 2'), (3, 'probe P'), (4, 'lstat P'), (2, 'stat P'), (5, 'list D'), (2, 'readlink P'),
    (4, 'create P one#'), (8, 'write P two#'), (2, 'append P +#'), (2, 'appendc P +#'), (2, 'pwrite P 1 #'),
    (2, 'trunc P 0'), (1, 'trunc P 1'), (4, 'rename P P'), (2, 'rename D D'), (1, 'exchange P P'), (1, 'exchange D D'),
    (1, 'renamenew P P'), (4, 'unlink P'), (3, 'mkdir D 755'), (3, 'rmdir D'), (1, 'rmtree D'), (1, 'mkdir D 700'),
    (2, 'chmod P 640'), (1, 'chmod D 750'), (1, 'mapread P'), (2, 'mapwrite P M#'), (2, 'link P P'),
    (2, 'symlink N P'), (1, 'tmpfile D P tmp#'), (2, 'copy P P'), (1, 'touch P'), (1, 'hole P'),
    (2, 'open S P r'), (1, 'open S P w'), (1, 'open S P wct'), (3, 'fread S 0 100'), (1, 'fwrite S 1 F#'),
    (1, 'fstat S'), (1, 'ftrunc S #'), (1, 'cd D'), (1, 'exit 0'), (1, 'exit 3'),
]
IDIOMS = [
    # what programs do
    ['write P.tmp new#', 'rename P.tmp P'], ['unlink P', 'write P again'], ['rmtree o', 'mkdir o 755', 'write o/a x#'],
    ['mkdir o 755', 'write o/a x#', 'list o'], ['mkdir o 755', 'write o/# x'], ['read P', 'write P r#'],
    ['list D', 'create P x'], ['open 1 P r', 'unlink P', 'fread 1 0 99'], ['open 1 P r', 'rename P P', 'fread 1 0 99'],
    ['write t 1', 'read t', 'unlink t'], ['link P P', 'unlink P'], ['list .', 'mkdir o 755', 'list .'],
    ['rename D D2', 'write D2/a n', 'rename D2 D'], ['rename d o', 'mkdir d 755', 'write d/a new'],
    ['probe P', 'when 0 2 unlink P', 'write P v'], ['chmod P 600', 'write P v', 'chmod P 644'],
    ['read P', 'when 0 2 read P', 'when 1 2 list D'], ['unlink l', 'symlink N l'],
]


class Random(random.Random):
    def op(self, text):
        out = []
        for word in text.split(' '):
            if word == 'P':
                word = self.choice(NAMES if self.random() < 0.85 else FILES)
            elif word == 'D':
                word = self.choice(DIRS + ['o', '.', 'd/../e'])
            elif word == 'N':
                word = self.choice(['a', 'd', '../a', 'nowhere', 'e/a', 'o'])
            elif word == 'S':
                word = self.choice('12')
            out.append(word)
        text = ' '.join(out)
        if self.random() < 0.25:
            text = f'when {self.randrange(2)} 2 {text}'
        return text

    def script(self):
        lines = []
        for _ in range(self.randint(2, 9)):
            if self.random() < 0.3:
                idiom = self.choice(IDIOMS)
                file, dir_ = self.choice(FILES + ['o', 'o/a']), self.choice(DIRS)
                for text in idiom:
                    words = [w.replace('D2', 'n').replace('P', file, 1) if w.startswith(('P', 'D2')) and w != 'P'
                             else file if w == 'P' and self.random() < 0.8 else dir_ if w == 'D' else w
                             for w in text.split(' ')]
                    lines.append(self.op(' '.join(words)) if 'when' not in text else
                                 ' '.join(words).replace(' P', ' ' + file))
            else:
                lines.append(self.op(self.choices([o for _, o in OPS], [n for n, _ in OPS])[0]))
        return '\n'.join(lines) + '\n'

    def world(self):
        tree = {}
        for d in DIRS:
            if self.random() < 0.75:
                put_into(tree, d.encode(), ('d', self.choice([0o755, 0o755, 0o700]), None, None))
        for f in FILES:
            if self.random() < 0.6:
                name = f.replace('%FF', '\udcff').replace('%0A', '\n').encode(errors='surrogateescape')
                put_into(tree, name, ('f', self.choice(MODES), self.choice(TEXTS), None))
        if self.random() < 0.6:
            put_into(tree, b'l', ('l', 0, self.choice([b'd', b'a', b'e', b'nowhere', b'l']), None))
        if self.random() < 0.3:
            put_into(tree, b'm', ('l', 0, self.choice([b'd', b'e/a', b'o']), None))
        if self.random() < 0.2 and b'a' in tree and b'b' in tree:
            tree[b'a'] = tree[b'a'][:3] + (b'a',)
            tree[b'b'] = tree[b'a']
        return tree


def change(rng, top, history):
    """One change of the world as a person or another program makes it. What was done, in words."""
    tree = snap(top)
    paths = list(tree)
    files = [p for p in paths if tree[p][0] == 'f']
    kind = rng.randrange(14)
    full = lambda p: os.path.join(top, p)
    try:
        if kind <= 3 and history:
            back = rng.choice(history)
            wipe(top)
            build(top, back)
            return 'everything as it was'
        if kind == 4 and files:
            p = rng.choice(files)
            st = os.lstat(full(p))
            with open(full(p), 'r+b') as f:
                data = bytes(b ^ 1 for b in f.read(64))
                f.seek(0)
                f.write(data)
            os.utime(full(p), ns=(st.st_atime_ns, st.st_mtime_ns))
            return f'{p} edited, size and time kept'
        if kind in (5, 6) and files:
            p = rng.choice(files)
            with open(full(p), 'wb') as f:
                f.write(rng.choice(TEXTS))
            return f'{p} edited'
        if kind in (7, 8) and paths:
            p = rng.choice(paths)
            wipe(full(p))
            return f'{p} removed'
        if kind == 9 and paths:
            p = rng.choice(paths)
            if tree[p][0] != 'l':
                os.chmod(full(p), rng.choice(MODES if tree[p][0] == 'f' else [0o755, 0o711]))
            return f'mode of {p}'
        if kind == 10 and files:
            os.utime(full(rng.choice(files)))
            return 'a file touched'
        if kind == 11:
            p = rng.choice([b'l', b'm', b'o', b'a'])
            wipe(full(p))
            os.symlink(rng.choice([b'd', b'a', b'e', b'b', b'nowhere']), full(p))
            return f'link {p}'
        if kind == 12 and paths:
            p = rng.choice(paths)
            q = rng.choice([b'd', b'e', b'n', b'o', b'q'])
            if not os.path.lexists(full(q)):
                os.rename(full(p), full(q))
                return f'{p} renamed to {q}'
            return 'nothing'
        p = rng.choice(NAMES).replace('%FF', '\udcff').replace('%0A', '\n').encode(errors='surrogateescape')
        if os.path.lexists(full(p)):
            return 'nothing'
        if rng.random() < 0.3:
            os.mkdir(full(p))
        else:
            with open(full(p), 'wb') as f:
                f.write(rng.choice(TEXTS))
        return f'{p} made'
    except OSError as e:
        return f'nothing ({e.strerror})'


# ---- running ----

Ran = collections.namedtuple('Ran', 'status out err tree')


class Case:
    def __init__(self, options, seed, number):
        self.o = options
        self.number = number
        self.rng = Random(f'{seed} {number}')
        self.dir = tempfile.mkdtemp(prefix=f'mlfs-model-{number}-')
        self.world = os.path.join(self.dir, 'w').encode()
        self.copy = os.path.join(self.dir, 'n').encode()
        self.scripts, self.recorded, self.log = [], [], []
        self.history = []  # worlds as they were
        self.left = collections.defaultdict(list)  # path -> states that a recorded run left
        self.environ = dict(os.environ, MLFS_CACHE=os.path.join(self.dir, 'cache'))
        self.environ.pop('MLFS_CONFIG', None)

    def run(self, argv, cwd):
        try:
            r = subprocess.run(argv, cwd=cwd, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True,
                               timeout=TIME_LIMIT)
            return r.returncode, r.stdout, r.stderr
        except subprocess.TimeoutExpired as e:
            return 'hangs', e.stdout or b'', e.stderr or b''

    def native(self, tree, script):
        wipe(self.copy)
        build(self.copy, tree)
        os.chmod(self.copy, self.top)
        ran = self.run([self.o.stepper, script], self.copy)
        return Ran(*ran, snap(self.copy))

    def replaced(self, rec):
        """Paths that a recorded run replaced or removed, not having learned what was in them."""
        if 'replaced' in rec:
            return rec['replaced']
        trace = os.path.join(self.dir, 'trace')
        wipe(self.copy)
        build(self.copy, rec['before'])
        os.chmod(self.copy, rec['top'])
        inode = {p: os.lstat(os.path.join(self.copy, p)).st_ino for p in rec['before']}
        # Held, so that no inode number is used twice meanwhile.
        held = [os.open(os.path.join(self.copy, p), os.O_PATH | os.O_NOFOLLOW) for p in inode]
        self.run([self.o.stepper, '-t', trace, rec['script']], self.copy)
        for fd in held:
            os.close(fd)
        with open(trace, encoding='ascii') as f:
            seen = [line.split() for line in f]
        content, truncated, gone = set(), set(), set()
        for what, number in seen:
            if what == 'T':
                truncated.add(number)
            elif what == 'R':
                gone.add(number)
            elif number not in truncated:
                content.add(number)
        gone |= truncated
        rec['replaced'] = {p for p, i in inode.items() if str(i) in gone and str(i) not in content}
        return rec['replaced']

    def without_outputs(self, tree, script=None):
        """Without what recorded runs (of this script) have left, and the paths taken away."""
        tree, gone = dict(tree), set()
        for p in sorted(tree, reverse=True):
            if any(bare(tree[p]) == state and script in (None, who) for state, who in self.left[p]):
                if remove_from(tree, p):
                    gone.add(p)
        return tree, gone

    def as_recorded(self, tree, rec, links, gone_only=False):
        """What the recorded run made is as it was before that run, where it was recorded runs that left it.
        links: hard links among that as well (the number of names of a file is nothing that is observed);
        gone_only: what is there stays (as another name of what the run replaced may)."""
        tree, gone = dict(tree), set()
        made = {p for p in tree if p not in rec['before']}
        for p in sorted(made, reverse=True):
            if p in tree and any(bare(tree[p]) == s for s, _ in self.left[p]) and remove_from(tree, p):
                gone.add(p)
        for p in sorted(self.replaced(rec)):
            then, now = rec['before'][p], tree.get(p)
            if now and gone_only:
                continue
            known = [bare(then), bare(rec['after'].get(p))] + [s for s, _ in self.left[p]]
            if (now is None and p in rec['after']) or (now and (bare(now) in known or
                                                                (p not in rec['after'] and now[0] == then[0]))):
                put_into(tree, p, then if links else bare(then) + (None,))
        return tree, gone

    def judge(self, got, before, script, rec):
        """None when a hit is right, else how it differs from the native run."""
        tries = [(before, set()), self.without_outputs(before, script), self.without_outputs(before)]
        if rec:
            tries += [self.as_recorded(before, rec, True), self.as_recorded(before, rec, False),
                      self.as_recorded(before, rec, False, True)]
        diffs = []
        for tree, gone in tries:
            want = self.native(tree, script)
            for p in gone:
                if p not in want.tree and p in before and got.tree.get(p) == before[p]:
                    want.tree[p] = before[p]
            diff = difference(want, got)
            if not diff:
                return None
            diffs.append(diff)
        return '\n   or '.join(diffs)

    def step(self, script):
        report = os.path.join(self.dir, 'report')
        before = snap(self.world)
        self.top = stat.S_IMODE(os.stat(self.world).st_mode)
        for f in (report,):
            if os.path.exists(f):
                os.unlink(f)
        argv = [self.o.mlfs, 'exec', '--report', report, '--cache-failures', '--', self.o.stepper, script]
        ran = self.run(argv, self.world)
        got = Ran(*ran, snap(self.world))
        noise = [x for x in got.err.split(b'\n') if x.startswith(b'mlfs: ')]
        got = got._replace(err=b''.join(x + b'\n' for x in got.err.split(b'\n')[:-1] if not x.startswith(b'mlfs: ')))
        try:
            with open(report, encoding='utf-8') as f:
                rep = json.load(f)
        except (OSError, ValueError) as e:
            return 'wrong', f'no report: {e}; status {got.status}; {noise}'
        self.log.append(f'   run {os.path.basename(script)}: {rep["result"]}, stored {rep["stored"]}, {rep["reason"]}')
        if noise:
            self.log.append(f'   said: {noise}')
        if rep['result'] == 'hit':
            rec = next((r for r in reversed(self.recorded) if r['key'] == rep['input_key']), None)
            wrong = self.judge(got, before, script, rec)
            return ('wrong', f'hit: {wrong}') if wrong else ('noise' if noise else 'hit', str(noise))
        want = self.native(before, script)
        wrong = difference(want, got)
        same = [r for r in self.recorded if r['script'] == script and (r['before'], r['top']) == (before, self.top)]
        if rep['stored']:
            rec = {'script': script, 'top': self.top, 'before': before, 'after': got.tree, 'key': rep['input_key']}
            self.recorded.append(rec)
            made = self.replaced(rec)
            for p, e in got.tree.items():
                if bare(before.get(p)) != bare(e) or p in made:
                    self.left[p].append((bare(e), script))
        if wrong:
            return 'wrong', f'{rep["result"]}: {wrong}'
        if noise:
            return 'noise', str(noise)
        if same:
            return 'missed', f'{rep["reason"]} (stored: {rep["stored"]})'
        if not rep['stored']:
            return 'unstored', str(rep['reason'])
        return 'miss', ''

    def go(self):
        build(self.world, self.rng.world())
        self.history.append(snap(self.world))
        for k in range(self.rng.choice([1, 1, 2])):
            name = os.path.join(self.dir, f'script{k}')
            with open(name, 'w', encoding='ascii') as f:
                f.write(self.rng.script())
            self.scripts.append(name)
        for k in range(10):
            if k != 1:
                for _ in range(self.rng.choice([0, 1, 1, 1, 2]) if k else 0):
                    self.log.append('  ' + change(self.rng, self.world, self.history))
            self.history.append(snap(self.world))
            yield self.step(self.rng.choice(self.scripts))

    def end(self, keep):
        if keep:
            return self.dir
        wipe(self.dir)
        return None


def difference(want, got):
    """What differs, in words; '' when nothing does."""
    out = []
    if want.status != got.status:
        out.append(f'status {got.status}, native {want.status}')
    for name in ('out', 'err'):
        a, b = getattr(want, name).split(b'\n'), getattr(got, name).split(b'\n')
        if a != b:
            k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            out.append(f'std{name}: {b[k:k + 1]}, native {a[k:k + 1]}')
    for p in sorted(set(want.tree) | set(got.tree)):
        x, y = want.tree.get(p), got.tree.get(p)
        if x != y:
            out.append(f'{p}: {short(y)}, native {short(x)}')
    return '; '.join(out)


def short(entry):
    return entry and (entry[0], oct(entry[1]), entry[2] and entry[2][:20], entry[3])


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--mlfs', required=True)
    p.add_argument('--stepper', required=True)
    p.add_argument('--case', type=int, help='only this one')
    p.add_argument('--keep', action='store_true', help='keep the directory of a case that went wrong')
    p.add_argument('-v', action='store_true', help='say each missed hit')
    p.add_argument('runs', nargs='?', type=int, default=400)
    p.add_argument('seed', nargs='?', default=str(time.time_ns() % 1000000))
    o = p.parse_args()
    print(f'oracle: {o.runs} runs, seed {o.seed}')
    count, why = collections.Counter(), collections.Counter()
    number = o.case or 0
    while sum(count.values()) < o.runs:
        case, bad = Case(o, o.seed, number), False
        for what, text in case.go():
            count[what] += 1
            if what in ('missed', 'unstored', 'noise'):
                why[f'{what}: {text}'] += 1
            if what in ('wrong', 'noise') or (o.v and what == 'missed'):
                print(f'== case {number}: {what}: {text}')
                for s in case.scripts:
                    with open(s, encoding='ascii') as f:
                        print(f'-- {os.path.basename(s)}\n{f.read()}', end='')
                print('\n'.join(case.log), flush=True)
            bad |= what == 'wrong'
        kept = case.end(o.keep and bad)
        if kept:
            print(f'kept: {kept}')
        number += 1
        if o.case is not None:
            break
    for text, n in why.most_common(25):
        print(f'{n:6} {text}')
    print(', '.join(f'{n} {what}' for what, n in sorted(count.items())))
    good = sum(count.values()) - count['wrong']
    print(f'{good} passed, {count["wrong"]} failed')
    return 1 if count['wrong'] else 0


if __name__ == '__main__':
    sys.exit(main())
