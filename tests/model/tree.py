# SPDX-License-Identifier: MIT
"""tree.py - worlds as values: what a directory tree holds, read from the disk and written to it."""
import collections
import errno
import os
import shutil
import stat

BLOCK = 4096
BIG = 1 << 20  # from here on a content is a Sparse
OLD = 1_000_000_000  # a time before this second was set by a step; other times are not compared

# kind: f d l p (fifo) s (socket). data: a file's bytes or Sparse, a link's target. group: the first of the paths
# (in_order) that are names of the same file, None for a file with one name. xattrs: sorted (name, value). mtime: see OLD.
Entry = collections.namedtuple('Entry', 'kind mode data group xattrs owner mtime')
# parts: (offset, bytes) of all blocks that are not zero, in order, what is adjacent as one.
Sparse = collections.namedtuple('Sparse', 'size parts')

KINDS = {stat.S_IFREG: 'f', stat.S_IFDIR: 'd', stat.S_IFLNK: 'l', stat.S_IFIFO: 'p', stat.S_IFSOCK: 's'}


def entry(kind, mode=0, data=None, group=None, xattrs=(), owner=None, mtime=0):
    return Entry(kind, mode, data, group, xattrs, owner or (os.geteuid(), os.getegid()), mtime)


def bare(e):
    """What the rule for own outputs compares (`struct left`)."""
    return e and (e.kind, e.mode, e.data)


def parent_of(path):
    return os.path.dirname(path)


def in_order(paths):
    """As a walk of the tree comes by them."""
    return sorted(paths, key=lambda p: p.split(b'/'))


def below(tree, path):
    return sorted(p for p in tree if p.startswith(path + b'/'))


# ---- reading ----

class lifted:
    """A file or directory that its owner may not read or search is made so for as long as this lasts."""

    def __init__(self, path, st, need):
        self.path, self.mode = path, stat.S_IMODE(st.st_mode)
        self.need = need if os.geteuid() and self.mode & need != need else 0

    def __enter__(self):
        if self.need:
            os.chmod(self.path, self.mode | self.need)

    def __exit__(self, *_):
        if self.need:
            os.chmod(self.path, self.mode)


def read_sparse(fd, size):
    parts, pos = [], 0
    while pos < size:
        try:
            pos = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, pos, os.SEEK_HOLE)
        while pos < end:
            block = os.pread(fd, BLOCK - pos % BLOCK, pos)
            if block.strip(b'\0'):
                if parts and parts[-1][0] + len(parts[-1][1]) == pos:
                    parts[-1] = (parts[-1][0], parts[-1][1] + block)
                else:
                    parts.append((pos, block))
            pos += len(block)
    return Sparse(size, tuple(parts))


def read_content(path):
    st = os.lstat(path)
    with lifted(path, st, 0o400):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME)
    try:
        return read_sparse(fd, st.st_size) if st.st_size >= BIG else os.read(fd, BIG)
    finally:
        os.close(fd)


def read_xattrs(path):
    return tuple(sorted((n, os.getxattr(path, n, follow_symlinks=False).decode('latin-1'))
                        for n in os.listxattr(path, follow_symlinks=False) if n.startswith('user.')))


def snap(top):
    """path -> Entry of all below the directory `top`; it itself is the empty path."""
    st = os.lstat(top)
    tree, groups = {b'': entry('d', stat.S_IMODE(st.st_mode), owner=(st.st_uid, st.st_gid))}, {}

    def one(path, full, st):
        kind = KINDS[stat.S_IFMT(st.st_mode)]
        data, group, xattrs, mode = None, None, (), 0 if kind == 'l' else stat.S_IMODE(st.st_mode)
        if kind == 'l':
            data = os.readlink(full)
        elif kind == 'f':
            data = read_content(full)
            if st.st_nlink > 1:
                group = groups.setdefault((st.st_dev, st.st_ino), path)
        if kind in 'fd':
            with lifted(full, st, 0o400):
                xattrs = read_xattrs(full)
        tree[path] = Entry(kind, mode, data, group, xattrs, (st.st_uid, st.st_gid),
                           st.st_mtime_ns if st.st_mtime_ns < OLD * 10**9 else 0)
        if kind == 'd':
            with lifted(full, st, 0o700):
                walk(path)

    def walk(rel):
        for name in sorted(os.listdir(os.path.join(top, rel))):
            path = os.path.join(rel, name)
            full = os.path.join(top, path)
            one(path, full, os.lstat(full))

    with lifted(top, st, 0o700):
        tree[b''] = tree[b'']._replace(xattrs=read_xattrs(top))
        walk(b'')
    # A file whose other names lie elsewhere has one name here.
    count = collections.Counter(e.group for e in tree.values())
    return {p: e if count[e.group] > 1 else e._replace(group=None) for p, e in tree.items()}


# ---- writing ----

def write_content(path, data):
    with open(path, 'wb') as f:
        if isinstance(data, Sparse):
            f.truncate(data.size)
            for at, part in data.parts:
                f.seek(at)
                f.write(part)
        else:
            f.write(data)


def build_one(top, path, tree):
    e, full = tree[path], os.path.join(top, path)
    first = e.group
    if e.kind == 'd' and path:
        os.mkdir(full, 0o700)
    elif e.kind == 'd':
        pass
    elif e.kind == 'l':
        os.symlink(e.data, full)
    elif e.kind == 'f' and first is not None and first != path and first in tree:
        os.link(os.path.join(top, first), full)
        return
    elif e.kind == 'f':
        write_content(full, e.data)
    else:
        os.mknod(full, (stat.S_IFIFO if e.kind == 'p' else stat.S_IFSOCK) | 0o600)
    if os.geteuid() == 0:
        os.lchown(full, *e.owner)
    for name, value in e.xattrs:
        os.setxattr(full, name, value.encode('latin-1'), follow_symlinks=False)
    if e.kind not in 'dl':
        os.chmod(full, e.mode)
    if e.mtime and e.kind != 'd':
        os.utime(full, ns=(e.mtime, e.mtime), follow_symlinks=False)


def build(top, tree, made=None):
    """made: called with each path and its full name when it is there (later its directory may be closed)."""
    os.makedirs(top)
    order = in_order(tree)
    for path in order:
        build_one(top, path, tree)
        if made:
            made(path, os.path.join(top, path))
    for path in reversed(order):
        if tree[path].kind == 'd':
            full = os.path.join(top, path)
            os.chmod(full, tree[path].mode)
            if tree[path].mtime:
                os.utime(full, ns=(tree[path].mtime, tree[path].mtime))


def wipe(top):
    """Remove whatever stands there, if anything does."""
    if os.path.islink(top) or (os.path.lexists(top) and not os.path.isdir(top)):
        os.unlink(top)
        return
    if not os.path.lexists(top):
        return
    if os.geteuid():
        os.chmod(top, 0o700)
        for at, dirs, _ in os.walk(top):
            for d in dirs:
                if not os.path.islink(os.path.join(at, d)):
                    os.chmod(os.path.join(at, d), 0o700)
    shutil.rmtree(top)


# ---- changing values ----

def remove_from(tree, path):
    """Without path (and all in it). Who was named after it as a hard link is named after another one."""
    for p in [path] + below(tree, path):
        del tree[p]
        others = in_order(q for q in tree if tree[q].group == p)
        for q in others:
            tree[q] = tree[q]._replace(group=others[0] if len(others) > 1 else None)
    count = collections.Counter(e.group for e in tree.values())
    for p, e in tree.items():
        if e.group is not None and count[e.group] < 2:
            tree[p] = e._replace(group=None)


def join(tree, path, other):
    """path, which stands alone, becomes a name of the file that other is a name of."""
    names = in_order([path] + [q for q in tree if q == other or tree[q].group and tree[q].group == tree[other].group])
    for q in names:
        tree[q] = tree[other]._replace(group=names[0])


def put_into(tree, path, e):
    """Put e at path; False where its parent is no directory."""
    parent = parent_of(path)
    if parent and (parent not in tree or tree[parent].kind != 'd'):
        return False
    if path in tree and not tree[path].kind == e.kind == 'd':
        remove_from(tree, path)
    tree[path] = e
    return True


# ---- comparing ----

def short(e):
    if not e:
        return 'nothing'
    data = e.data
    if isinstance(data, Sparse):
        data = f'{data.size} bytes, {sum(len(x) for _, x in data.parts)} of them not 0'
    elif data is not None:
        data = data if len(data) < 24 else data[:20] + b'... %d' % len(data)
    more = [f'{n}={v!r}' for n, v in (('link of', e.group), ('xattrs', e.xattrs), ('mtime', e.mtime)) if v]
    return f'({e.kind} {e.mode:o} {data}{" " if more else ""}{" ".join(more)})'


def difference(want, got, times=True):
    """What differs between two trees, in words; '' when nothing does."""
    out = []
    for p in sorted(set(want) | set(got)):
        x, y = want.get(p), got.get(p)
        if x and y and not times:
            x, y = x._replace(mtime=0), y._replace(mtime=0)
        if x != y:
            out.append(f'{p}: {short(y)}, native {short(x)}')
    return '; '.join(out)


# ---- as JSON ----

def text_of(data):
    return data.decode('latin-1')


def to_json(tree):
    def content(d):
        if isinstance(d, Sparse):
            return [d.size, [[at, text_of(x)] for at, x in d.parts]]
        return None if d is None else text_of(d)
    return {text_of(p): [e.kind, e.mode, content(e.data), e.group and text_of(e.group), list(e.xattrs), e.mtime]
            for p, e in tree.items()}


def from_json(obj):
    def content(d):
        if isinstance(d, list):
            return Sparse(d[0], tuple((at, x.encode('latin-1')) for at, x in d[1]))
        return None if d is None else d.encode('latin-1')
    return {p.encode('latin-1'): entry(k, mode, content(d), g and g.encode('latin-1'), tuple(map(tuple, x)), None, t)
            for p, (k, mode, d, g, x, t) in obj.items()}
