# SPDX-License-Identifier: MIT
"""changes.py - what happens to a world between runs, one event at a time (see Random.change in generate.py)."""
import os
import shutil
import stat

from tree import wipe


def apply(event, top):
    """Carry it out; '' or why it could not be."""
    path = os.path.join(top, event['path'].encode('latin-1'))
    to = os.path.join(top, event['to'].encode('latin-1')) if event['do'] in ('move', 'hard', 'copy') else top
    try:
        globals()['do_' + event['do']](event, path, to)
        return ''
    except (OSError, shutil.Error) as e:
        return f'(nothing: {e})'


def keeping_time(path, change):
    st = os.lstat(path)
    change()
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def do_flip(_, path, __):
    """Another content of the same size and time."""
    def flip():
        with open(path, 'r+b') as f:
            data = bytes(b ^ 1 for b in f.read(64))
            f.seek(0)
            f.write(data)
    keeping_time(path, flip)


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)


def do_edit(event, path, _):
    data = event['data'].encode('latin-1')
    if event['keep']:
        keeping_time(path, lambda: write(path, data))
    else:
        write(path, data)


def do_truncate(_, path, __):
    os.truncate(path, os.path.getsize(path) // 2)


def do_make(event, path, _):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(fd, 'wb') as f:
        f.write(event['data'].encode('latin-1'))


def do_mkdir(_, path, __):
    os.mkdir(path)


def do_special(event, path, _):
    os.mknod(path, (stat.S_IFIFO if event['kind'] == 'p' else stat.S_IFSOCK) | 0o644)


def do_remove(_, path, __):
    wipe(path)


def do_chmod(event, path, _):
    if not os.path.islink(path):
        os.chmod(path, event['mode'])


def do_touch(_, path, __):
    os.utime(path, follow_symlinks=False)


def do_utime(event, path, _):
    os.utime(path, ns=(event['mtime'], event['mtime']))


def do_setx(event, path, _):
    os.setxattr(path, event['name'], event['value'].encode())


def do_link(event, path, top):
    wipe(path)
    os.symlink(event['to'].encode().replace(b'@', top), path)


def do_move(_, path, to):
    if not os.path.lexists(to):
        os.rename(path, to)


def do_hard(_, path, to):
    """Another name, in the place of whatever was there."""
    if path != to and not os.path.isdir(to) and stat.S_ISREG(os.lstat(path).st_mode):
        wipe(to)
        os.link(path, to)


def do_unshare(_, path, __):
    """The same file, but no longer the one that other names have."""
    shutil.copy2(path, path + b'.new')
    os.rename(path + b'.new', path)


def do_copy(_, path, to):
    if path != to and os.path.isfile(path) and not os.path.islink(path) and not os.path.isdir(to):
        wipe(to)
        shutil.copy2(path, to)
