# SPDX-License-Identifier: MIT
"""minimise.py - cut a case that fails down to what the failure needs (delta debugging)."""
import copy
import time

from case import Case


def carry_out(options, data):
    """All that happens: [(what, why)] of its runs, and the log."""
    case = Case(options, data)
    try:
        return list(case.go(data['events'])), case.log
    finally:
        case.end()


class Minimiser:
    def __init__(self, options, data, what, seconds):
        self.o, self.data, self.what = options, data, what
        self.until = time.monotonic() + seconds

    def fails(self, data):
        if time.monotonic() > self.until:
            return False
        try:
            return any(what == self.what for what, _ in carry_out(self.o, data)[0])
        except (OSError, KeyError, ValueError):
            return False  # cut in a way that makes no sense

    def without(self, get, put):
        """Drop as many elements of the list get(data) as can go, halves first."""
        size = max(1, len(get(self.data)) // 2)
        while True:
            k, gone = 0, False
            while k < len(get(self.data)):
                tried = copy.deepcopy(self.data)
                items = get(tried)
                put(tried, items[:k] + items[k + size:])
                if self.fails(tried):
                    self.data, gone = tried, True
                else:
                    k += size
            if size == 1 and not gone:
                return
            size = max(1, size // 2)

    def simpler(self, change):
        tried = copy.deepcopy(self.data)
        if change(tried) is not False and self.fails(tried):
            self.data = tried

    def run(self):
        """The smallest case found in time."""
        if not self.fails(self.data):
            return None
        for _ in range(2):
            self.without(lambda d: d['events'], lambda d, v: d.update(events=v))
            for k in range(len(self.data['scripts'])):
                self.without(lambda d, k=k: d['scripts'][k], lambda d, v, k=k: d['scripts'].__setitem__(k, v))
            self.without(lambda d: list(d['world'].items()), lambda d, v: d.update(world=dict(v)))
        for k, event in enumerate(self.data['events']):
            if event['do'] == 'run' and event['stdin']['kind'] != 'null':
                self.simpler(lambda d, k=k: d['events'][k].update(stdin={'kind': 'null'}))
            if event['do'] == 'run' and event['options'] != ['--cache-failures']:
                self.simpler(lambda d, k=k: d['events'][k].update(options=['--cache-failures']))
        for p, e in list(self.data['world'].items()):
            if e[0] == 'f' and e[2] not in ('', 'A'):
                self.simpler(lambda d, p=p: d['world'][p].__setitem__(2, 'A'))
        return self.data
