# SPDX-License-Identifier: MIT
"""case.py - one case: a world, scripts, and events (runs, and changes of the world), carried out and judged.

A case is plain data, {"world", "scripts", "events"}, made event by event (generate.py) or given (a replay).
"""
import collections
import fnmatch
import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import urllib.parse

from changes import apply
from tree import bare, below, build, difference, from_json, in_order, join, parent_of, remove_from, put_into, snap, \
    text_of, to_json, wipe

TIME_LIMIT = 60

# What a run showed: `rest` is what it left unread of its stdin.
Ran = collections.namedtuple('Ran', 'status out err rest tree')
# A recorded run. conf: script, options that are in its key, stdin.
Recorded = collections.namedtuple('Recorded', 'conf before after key times report big')
# What a log of the stepper says about one run: paths of the world that are its own outputs, those that it made
# (and may have taken away again), that it removed not knowing what was in them, directories whose listing mattered, paths
# looked at, paths at which something came to be.
Notes = collections.namedtuple('Notes', 'own made removed listed looked came')


def lines_differ(want, got, name):
    a, b = want.split(b'\n'), got.split(b'\n')
    k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return '' if a == b else f'{name}: {b[k:k + 1]}, native {a[k:k + 1]}; '


def compare(want, got, times=True):
    """How `got` differs from `want`, in words."""
    out = '' if want.status == got.status else f'status {got.status}, native {want.status}; '
    out += lines_differ(want.out, got.out, 'stdout') + lines_differ(want.err, got.err, 'stderr')
    if want.rest != got.rest:
        out += f'left of stdin: {str(got.rest)[:40]}, native {str(want.rest)[:40]}; '
    return out + difference(want.tree, got.tree, times)


class Stdin:
    """What a run gets as fd 0, and what it leaves of it."""

    def __init__(self, spec, directory):
        self.spec, self.thread, self.ours = spec, None, None
        data = spec.get('data', '').encode('latin-1')
        if spec['kind'] == 'file':
            path = os.path.join(directory, 'stdin')
            with open(path, 'wb') as f:
                f.write(data)
            self.fd = os.open(path, os.O_RDONLY)
            os.lseek(self.fd, spec['off'], os.SEEK_SET)
        elif spec['kind'] in ('pipe', 'socket'):
            if spec['kind'] == 'pipe':
                self.fd, end = os.pipe()
            else:
                a, b = socket.socketpair()
                self.fd, end = a.detach(), b.detach()
            self.thread = threading.Thread(target=self.feed, args=(end, data))
            self.thread.start()
        else:
            self.fd = os.open('/dev/null', os.O_RDONLY)

    @staticmethod
    def feed(fd, data):
        with open(fd, 'wb', buffering=0) as f:
            view = memoryview(data)
            try:
                while view:
                    view = view[f.write(view):]
            except OSError:
                pass  # nobody reads it any more

    def rest(self):
        if self.spec['kind'] == 'file':
            left = os.lseek(self.fd, 0, os.SEEK_CUR)
        elif self.thread:
            left = b''
            while block := os.read(self.fd, 1 << 20):
                left += block
            self.thread.join()
        else:
            left = None
        os.close(self.fd)
        return left


class Case:
    def __init__(self, options, data):
        self.o, self.data = options, data
        # Not named after anything that differs between a case and its replay but the directory's own name.
        self.dir = tempfile.mkdtemp(prefix='mlfs-model-')
        self.top = os.path.join(self.dir, 't').encode()
        self.scripts, self.recorded, self.log = [], [], []
        self.before = {}  # of each run, by its number: the tree it began in
        self.left = collections.defaultdict(set)  # path -> states that recorded runs left there
        self.touched = set()
        self.notes = {}
        self.environ = dict(os.environ, MLFS_CACHE=os.path.join(self.dir, 'cache'))
        self.environ.pop('MLFS_CONFIG', None)
        for k, lines in enumerate(data['scripts']):
            self.scripts.append(os.path.join(self.dir, f'script{k}'))
            with open(self.scripts[-1], 'w', encoding='ascii') as f:
                f.write(''.join(x.replace('@', text_of(self.top)) + '\n' for x in lines))
        world = {p: e._replace(data=e.data.replace(b'@', self.top)) if e.kind == 'l' else e
                 for p, e in from_json(data['world']).items()}
        build(self.top, world)

    def end(self):
        wipe(self.dir)

    # ---- running ----

    def run(self, argv, stdin):
        """In the world. The tree afterwards is not looked at."""
        feed = Stdin(stdin, self.dir)
        closed = (lambda: os.close(0)) if stdin['kind'] == 'closed' else None
        try:
            r = subprocess.run(argv, cwd=os.path.join(self.top, b'w'), env=self.environ, stdin=feed.fd,
                               capture_output=True, timeout=TIME_LIMIT, preexec_fn=closed, check=False)
            return Ran(r.returncode, r.stdout, r.stderr, feed.rest(), None)
        except subprocess.TimeoutExpired as e:
            os.close(feed.fd)
            return Ran('hangs', e.stdout or b'', e.stderr or b'', None, None)

    def native(self, tree, conf, log=None):
        """The step itself in a copy of `tree`, at the very place of the world."""
        aside = self.top + b'.aside'
        os.rename(self.top, aside)
        held = {}

        def hold(path, full):
            """So that no inode number is used twice meanwhile."""
            fd = os.open(full, os.O_PATH | os.O_NOFOLLOW)
            held[path] = (fd, os.fstat(fd).st_ino)
        try:
            build(self.top, tree, hold if log else None)
            ran = self.run([self.o.stepper] + (['-t', log] if log else []) + [self.scripts[conf['script']]],
                           conf['stdin'])
            after = snap(self.top)
        finally:
            for fd, _ in held.values():
                os.close(fd)
            wipe(self.top)
            os.rename(aside, self.top)
        return (ran._replace(tree=after), {p: ino for p, (_, ino) in held.items()})

    def notes_of(self, rec):
        """What the recorded run did, by the log of a native run in the world it was recorded in."""
        known = self.notes.get(id(rec))
        if known:
            return known[1]
        log = os.path.join(self.dir, 'log')
        _, inode = self.native(rec.before, rec.conf, log)
        names = collections.Counter(inode.values())
        truncated, gone, content, sets = set(), set(), set(), {'N': set(), 'L': set(), 'P': set()}
        with open(log, encoding='ascii') as f:
            for line in f:
                what, ino, path = line.split()
                path, ino = os.path.relpath(urllib.parse.unquote_to_bytes(path), self.top), int(ino)
                if what in sets:
                    sets[what].add(path)
                    continue
                # Of a file with several names only the one that was used is meant, but bytes are those of all.
                one = path if names[ino] > 1 else None
                if what == 'T':
                    truncated.add(ino)
                elif what == 'R':
                    gone.add((ino, one))
                elif ino not in truncated and (what == 'D' or (ino, one) not in gone or names[ino] < 2):
                    content.add((ino, one))
        own = set()
        for p, ino in inode.items():
            one = p if names[ino] > 1 else None
            # Truncated under another name, this one need not have been known to the step.
            if (ino in truncated and p in sets['P'] or (ino, one) in gone) and (ino, one) not in content and \
                    p in rec.after:
                own.add(p)
        made = {p for p in sets['N'] if p not in rec.before}
        removed = {p for p, ino in inode.items() if p not in rec.after and
                   not {(ino, p if names[ino] > 1 else None)} & content and rec.before[p].data != b''}
        notes = Notes(own | made, made, removed, sets['L'], sets['P'], sets['N'])
        if '--strict' in rec.conf['options']:
            notes = notes._replace(own=set())
        self.notes[id(rec)] = (rec, notes)
        return notes

    # ---- the rules of design 4 ----

    def ignored(self, path, conf):
        o = conf['options']
        full = text_of(os.path.join(self.top, path))
        globs = [o[k + 1] for k, x in enumerate(o[:-1]) if x == '--ignore']
        return any(fnmatch.fnmatchcase(full, g) or fnmatch.fnmatchcase(full, g + '/*') for g in globs)

    def without_ignored(self, tree, conf):
        # Which other names a file has among what is ignored is ignored as well; which among the others counts.
        tree = dict(tree)
        for p in sorted(tree):
            if p in tree and self.ignored(p, conf):
                remove_from(tree, p)
        return tree

    def known(self, rec, path, state):
        return state is None or state in (bare(rec.after.get(path)), bare(rec.before.get(path))) or \
            state in self.left[path]

    def as_recorded(self, world, rec, linked):
        """The world with the own outputs of a recorded run as they were before it: what a hit stands for. Then what
        others left in directories that were made by the run (and are taken for absent), which stays as it is.
        A sentence instead where the rule does not allow that.
        linked: a file that has other names gets its earlier content under all of them; else it is parted from them."""
        notes, tree, aside = self.notes_of(rec), dict(world), {}
        for p in sorted(notes.own):
            if not self.ignored(p, rec.conf) and not self.known(rec, p, bare(world.get(p))):
                return f'{p} is {short_of(world.get(p))}, which is nobody\'s output'
        # Directories of the step's making, where nothing was before or something else: what others put into one that
        # it did not look into is no observation, and stays.
        fresh = {p for p in notes.own if p in notes.made or rec.before[p].kind != 'd'}
        for p in sorted(fresh):
            if p in tree and tree[p].kind == 'd':
                for q in below(tree, p):
                    if q in notes.own:
                        continue
                    if not self.ignored(q, rec.conf) and \
                            (parent_of(q) in notes.listed and parent_of(q) in fresh or q in notes.looked):
                        return f'{q} was not there when {p} was made and looked into'
                    aside[q] = tree[q]
        for p in sorted(notes.made & notes.own):
            if p in tree:
                remove_from(tree, p)
        # What was there and was removed: something of its kind, whatever is in it.
        for p, e in rec.before.items():
            if p in notes.removed and world.get(p) and world[p].kind == e.kind and world[p] != e:
                put_into(tree, p, e._replace(group=None))
        for p in sorted(notes.own - notes.made):
            # A file of its own then, it is so for the step, whatever it has become a name of since.
            apart = not linked and p in tree and tree[p].group and not rec.before[p].group
            if apart or bare(tree.get(p)) != bare(rec.before[p]):
                # What the rule does not compare is not taken back.
                if linked and p in tree and tree[p].group:
                    for q in [q for q in tree if tree[q].group == tree[p].group]:
                        tree[q] = tree[q]._replace(data=rec.before[p].data, mode=rec.before[p].mode)
                    continue
                rest = world.get(p)
                if not rest or rest.kind != rec.before[p].kind:
                    rest = rec.before[p]._replace(xattrs=(), owner=(os.geteuid(), os.getegid()))
                put_into(tree, p, rec.before[p]._replace(group=None, xattrs=rest.xattrs, owner=rest.owner))
        self.put_ignored(tree, rec)
        # Names of one file, all of them own outputs: as they were.
        for p in notes.own - notes.made:
            group = rec.before[p].group
            mates = [q for q in rec.before if group and rec.before[q].group == group]
            if p not in tree or not mates or (tree[p].group and len({q in tree and tree[q].group for q in mates}) == 1):
                continue
            if all(q in notes.own and q in tree and bare(tree[q]) == bare(rec.before[q]) for q in mates):
                tree[p] = tree[p]._replace(group=group)
        return tree, aside

    def put_ignored(self, tree, rec):
        """What is ignored may be anything: it is taken for what it was when recorded, names of files that are as they
        were included."""
        for p in sorted(tree):
            if p in tree and self.ignored(p, rec.conf):
                remove_from(tree, p)
        for p in sorted(rec.before):
            if not self.ignored(p, rec.conf) or not put_into(tree, p, rec.before[p]._replace(group=None)):
                continue
            group = rec.before[p].group
            mates = [q for q in rec.before if group and q != p and rec.before[q].group == group and
                     bare(tree.get(q)) == bare(rec.before[q])]
            if mates:
                # Own outputs are taken for what they were as well.
                join(tree, p, min(mates, key=lambda q: q not in self.notes_of(rec).own))

    def goes_along(self, p, world, got, conf):
        """What is ignored has what is not for another name, and stays that: that one is judged."""
        return p in world and p in got.tree and any(
            world[p].group and world[p].group == world[q].group and not self.ignored(q, conf) and
            q in got.tree and got.tree[p].group and got.tree[p].group == got.tree[q].group for q in world)

    def judge_one(self, got, world, rec, conf):
        tries = [(world, {})]
        for linked in (False, True):
            tries.append(self.as_recorded(world, rec, linked))
            if isinstance(tries[-1], str):
                return tries[-1]
        why = ''
        for k, (tree, aside) in enumerate(tries):
            if k == 2 and tree == tries[1][0]:
                continue
            want, _ = self.native(tree, conf)
            for q, e in aside.items():
                if not put_into(want.tree, q, e):
                    return why + f'; {q} has nowhere to stay'
            # Names of one file that were set aside, with what else is a name of it and was not touched.
            rejoined = {p for p in want.tree if p not in self.notes_of(rec).own or got.tree.get(p) == world.get(p)}
            join_again(want.tree, world, aside, rejoined)
            for p in self.notes_of(rec).own if k else ():
                # One that is as it should be is not touched, whatever else somebody did to it.
                kept = got.tree.get(p)
                if self.ignored(p, conf):  # nor does it say anything of its other names
                    continue
                if p in want.tree and kept and parted(kept) == parted(world.get(p)) and bare(kept) == bare(want.tree[p]):
                    for q in names_of(want.tree, p):  # under its new names as well
                        want.tree[q] = want.tree[q]._replace(xattrs=kept.xattrs, owner=kept.owner)
            want = want._replace(tree=self.without_ignored(want.tree, conf))
            seen = got._replace(tree=self.without_ignored(got.tree, conf))
            # A time that the world had before is carried along by a rename and the like: no observation.
            diff = compare(want, seen) and compare(without_times(want, world), without_times(seen, world))
            if not diff:
                break
            why += f'\n   or {diff}' if why else diff
        else:
            return why
        for p in sorted(set(world) | set(got.tree)):
            if self.ignored(p, conf) and parted(world.get(p)) != parted(got.tree.get(p)) and \
                    not self.goes_along(p, world, got, conf):
                return f'{p} is ignored and was changed'
        return self.order(got, world, rec)

    def order(self, got, world, rec):
        """Files written one after the other: restored, they are not the other way round."""
        del world
        now = mtimes(self.top, [p for p in rec.times if p in got.tree])
        kept = sorted((t, now[p]) for p, t in rec.times.items() if p in now and p not in self.placed)
        if any(a[1] > b[1] for a, b in zip(kept, kept[1:])):
            return ''  # what stays as it is is not in order already
        for p, then in rec.times.items():
            for q, later in rec.times.items():
                if then < later and p in now and q in now and now[p] > now[q] and {p, q} & self.placed:
                    return f'{p} was older than {q} when recorded, and is newer now'
        return ''

    def judge(self, got, world, rep, conf):
        """'' when a hit is right, else why not."""
        recs = [r for r in self.recorded if r.key == rep['input_key']]
        if not recs:
            return 'no run was recorded with this key'
        for rec in reversed(recs):
            for field in ('inputs', 'outputs', 'output_bytes'):
                if rec.report[field] != rep[field]:
                    return f'{field}: {rep[field]}, {rec.report[field]} when recorded'
            why = self.judge_one(got, world, rec, conf)
            if not why:
                return ''
        return why

    def in_the_way(self, world, rec):
        """Something that is ignored, which nothing removes, lies in a directory that the recorded run removed."""
        return any(self.ignored(p, rec.conf) and any(
            p.startswith(d + b'/') and e.kind == 'd' and (d not in rec.after or rec.after[d].kind != 'd')
            for d, e in rec.before.items()) for p in world)

    def licensed(self, world, rec):
        """Is this a world in which the recorded run should be a hit, though not the very one?"""
        own = self.notes_of(rec).own
        if any(world.get(p) != rec.before.get(p) for p in set(world) | set(rec.before)
               if p not in own and not self.ignored(p, rec.conf)) or self.in_the_way(world, rec):
            return False
        for p in own:
            now, after, then = world.get(p), rec.after.get(p), rec.before.get(p)
            if then and then.data == b'' and now != then:
                return False  # who looks at an empty file knows what is in it
            if not self.known(rec, p, bare(now)) or (now and now.group):
                return False
            if now and bare(now) != bare(then) and (not after or after.kind != now.kind):
                return False
        return True

    # ---- one run ----

    def mlfs(self, event):
        """Run a step with mlfs. Its report, what it did; or a sentence."""
        report = os.path.join(self.dir, 'report')
        if os.path.exists(report):
            os.unlink(report)
        ran = self.run([self.o.mlfs, 'exec', '--report', report] + event['options'] +
                       ['--', self.o.stepper, self.scripts[event['script']]], event['stdin'])
        lines = ran.err.split(b'\n')
        noise = [x for x in lines if x.startswith(b'mlfs: ')]
        got = ran._replace(err=b'\n'.join(x for x in lines if not x.startswith(b'mlfs: ')), tree=snap(self.top))
        try:
            with open(report, encoding='utf-8') as f:
                return json.load(f), got, noise
        except (OSError, ValueError) as e:
            return None, got, [f'no report: {e}; status {got.status}'.encode()] + noise

    def conf_of(self, event):
        in_key = [x for x in event['options'] if x not in ('--cache-failures', '--refresh', '--no-cache', '--read-only')]
        return {'script': event['script'], 'options': in_key, 'stdin': event['stdin']}

    def record(self, conf, world, got, rep, big):
        changed = [p for p in self.placed if got.tree[p].kind == 'f' and not got.tree[p].mtime and
                   not self.ignored(p, conf)]
        rec = Recorded(conf, world, got.tree, rep['input_key'], mtimes(self.top, changed), rep, big)
        self.recorded.append(rec)
        notes = self.notes_of(rec)
        for p in set(rec.times) - notes.looked - notes.own - notes.came:
            del rec.times[p]  # another name of what the step wrote, which it did not know of
        for p, e in got.tree.items():
            # A person's file that was only given another time or attribute is still the person's.
            if bare(e) != bare(world.get(p)) or p in notes.own or p in notes.made or p in self.renewed:
                self.left[p].add(bare(e))
        self.touched |= {p for p in set(got.tree) | set(world) if got.tree.get(p) != world.get(p)} | notes.own

    def step(self, event, number):
        """Carry out a run: what it was (hit, miss, uncached; wrong, missed, noise, accused, unstored), and why."""
        part_links(self.top)
        world = self.before[number] = snap(self.top)
        conf, big = self.conf_of(event), big_times(self.top, world)
        stamps = changed_at(self.top, world)
        rep, got, noise = self.mlfs(event)
        if not rep:
            return 'wrong', str(noise)
        now, files = changed_at(self.top, got.tree), set(stamps.values())
        self.renewed = {p for p, t in now.items() if p not in stamps or stamps[p][0] != t[0]}
        # Another name of a file that stays has the time of that.
        self.placed = {p for p, t in now.items() if t not in files}
        self.log.append(f'run script{event["script"]} {" ".join(event["options"])} <{event["stdin"]["kind"]}: '
                        f'{rep["result"]}, stored {rep["stored"]}, {rep["reason"]}')
        if rep['result'] == 'hit':
            why = self.judge(got, world, rep, conf)
            if why:
                return 'wrong', f'hit: {why}'
            if event['options'] and '--cache-failures' not in event['options'] and got.status:
                return 'wrong', 'hit: of a failure that was not to be used'
            return ('noise', str(noise)) if noise else ('hit', '')
        want, _ = self.native(world, conf)
        why = compare(want, got, times=False) or compare(want, got)
        same = [r for r in self.recorded if r.conf == conf and r.before == world and r.big == big and
                not self.in_the_way(world, r)]
        could = [] if same else [r for r in self.recorded if r.conf == conf and not r.big and self.licensed(world, r) and
                                 (not r.report['exit_status'] or '--cache-failures' in event['options'])]
        if rep['stored']:
            self.record(conf, world, got, rep, big)
        if why:
            return 'wrong', f'{rep["result"]}: {why}'
        if noise:
            return 'noise', str(noise)
        blind = os.geteuid() and any(is_closed(e) for tree in (world, got.tree) for e in tree.values())
        asked = {'--no-cache', '--refresh'} & set(event['options']) or \
            (got.status and '--cache-failures' not in event['options'])
        if rep['stored'] and (got.status and '--cache-failures' not in event['options'] or
                              {'--no-cache', '--read-only'} & set(event['options'])):
            return 'wrong', 'it was stored'
        elsewhere = str(rep['reason']).startswith('/') and not rep['reason'].startswith(self.dir)
        if (same or could) and not asked and blind:
            return 'blind', f'{rep["reason"]} (stored: {rep["stored"]})'
        if (same or could) and not asked and not elsewhere:
            return 'missed' if same else 'could', f'{rep["reason"]} (stored: {rep["stored"]})'
        if not rep['stored'] and not asked and '--read-only' not in event['options']:
            # Nobody else is there.
            return 'accused' if 'another process' in str(rep['reason']) and not blind else 'unstored', str(rep['reason'])
        return rep['result'], ''

    # ---- all of it ----

    def go(self, events):
        """Carry out events; yields (what, why) for each run. Those carried out are in self.done."""
        self.done = []
        for event in events:
            self.done.append(event)
            if event['do'] in ('run', 'native') and not can_enter(os.path.join(self.top, b'w')):
                continue  # a step took it away, or closed it
            if event['do'] == 'run':
                yield self.step(event, event['number'])
            elif event['do'] == 'restore':
                self.log.append(f'everything as before run {event["run"]}')
                if event['run'] in self.before:
                    wipe(self.top)
                    build(self.top, self.before[event['run']])
            elif event['do'] == 'native':
                self.log.append(f'script{event["script"]} without mlfs')
                self.run([self.o.stepper, self.scripts[event['script']]], {'kind': 'null'})
            else:
                self.log.append(f'{event} {apply(event, self.top)}')


def short_of(e):
    return e and (e.kind, oct(e.mode), str(e.data)[:24])


def parted(e):
    """Whether it is another name of an output is the output's doing."""
    return e and e._replace(group=None)


def names_of(tree, p):
    return [q for q in tree if q == p or tree[q].group and tree[q].group == tree[p].group]


def join_again(tree, world, aside, which):
    """What was set aside is again a name of the file that it was one of, where that is as it was."""
    for group in {e.group for e in aside.values() if e.group}:
        mates = [p for p in world if world[p].group == group and p not in aside]
        if len(mates) > 1 and all(p in tree and tree[p].group for p in mates) and len({tree[p].group for p in mates}) == 1:
            # Changed in place, it is so under all of its names.
            names = in_order(mates + [q for q in aside if q in tree and aside[q].group == group])
            for p in names:
                tree[p] = tree[mates[0]]._replace(group=names[0])
            continue
        names = [p for p in which if p in world and world[p].group == group and bare(tree[p]) == bare(world[p])]
        for p in names:
            tree[p] = tree[p]._replace(group=in_order(names)[0] if len(names) > 1 else None)


def is_closed(e):
    """Not to be read by its owner: mlfs cannot know what is in it either, and says so."""
    return e.kind == 'f' and not e.mode & 0o400 or e.kind == 'd' and e.mode & 0o500 != 0o500


def can_enter(path):
    return os.path.isdir(path) and not os.path.islink(path) and os.access(path, os.X_OK)


def without_times(ran, world):
    # Or one just before it: what is restored is to be older than what was made from it and stays.
    had = {(e.mtime + 999) // 1000 for e in world.values()}
    return ran._replace(tree={p: e._replace(mtime=0) if (e.mtime + 999) // 1000 in had else e
                              for p, e in ran.tree.items()})


def mtimes(top, paths):
    return {p: os.lstat(os.path.join(top, p)).st_mtime_ns for p in paths if os.path.lexists(os.path.join(top, p))}


def changed_at(top, tree):
    """Something that moves whenever a file is placed."""
    out = {}
    for p in tree:
        try:
            st = os.lstat(os.path.join(top, p))
            out[p] = (st.st_ino, st.st_mtime_ns)
        except OSError:
            pass  # in a directory that may not be searched
    return out


def part_links(top):
    """All but files that are names of one are parted before a run: worlds do not know of such (tree.py)."""
    for at, dirs, files in os.walk(top):
        if not os.access(at, os.W_OK | os.X_OK):
            continue
        then = os.lstat(at)
        for path in (os.path.join(at, x) for x in dirs + files):
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode) or st.st_nlink < 2:
                continue
            to = stat.S_ISLNK(st.st_mode) and os.readlink(path)
            os.unlink(path)
            if to:
                os.symlink(to, path)
            else:
                os.mknod(path, st.st_mode)
                os.chmod(path, stat.S_IMODE(st.st_mode))
            os.chown(path, st.st_uid, st.st_gid, follow_symlinks=False)
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)
            os.utime(at, ns=(then.st_atime_ns, then.st_mtime_ns))


def big_times(top, tree):
    """The times of files too big to be digested when they are only looked at: those count."""
    return mtimes(top, [p for p, e in tree.items() if e.kind == 'f' and not isinstance(e.data, bytes) and
                        e.data.size > 16 << 20])


def make_data(world, scripts, events):
    return {'world': to_json(world), 'scripts': scripts, 'events': events}

