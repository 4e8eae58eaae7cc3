#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""oracle.py - random steps in random worlds: does `mlfs exec` do what the step itself would do?

    oracle.py --mlfs FILE --stepper FILE [OPTION...] [RUNS [SEED]]
    oracle.py --mlfs FILE --stepper FILE --replay FILE
    oracle.py --mlfs FILE --stepper FILE --kept [NAME...]

A case is a small tree (the world), some scripts for the stepper, and ten runs of them with changes of the world in
between: edits with and without the time kept, things that come, go and move, links pointed elsewhere, files linked
and parted, outputs deleted or edited by hand, and going back to how it all was. For each run the console, the
status, what is left of stdin and the tree are compared with those of the same step run natively in a copy of the
same world at the same place.

A run that is not a hit must be exactly the native one. A hit must be the native one, or else what a native run gives
when the step's own outputs (design 4: what the recorded run made or wholly replaced without reading it) are as they
were when it was recorded; and each of them must be absent, as then, as left then, or as some recorded run left it.

    hit, miss, uncached   as they should be
    wrong      something differs: the test fails
    noise      mlfs complained: the test fails
    missed     the world, stdin and options were those of a recorded run, and yet the step ran: the test fails
    accused    the step ran and was not recorded, since "another process" is said to have changed something, and there
               is none: the test fails
    could      only outputs were others, as the rule allows, and yet the step ran: counted
    blind      the same, or missed, by an ordinary user, who may not read something of the world: counted
    unstored   the step ran and was not recorded: counted with the reason

A failure is cut down to a small case, which is printed; save it to a file for --replay. Those of the past are in kept/,
with what each is about and what its runs have to be ("want"; "want_user" where that is another for an ordinary user);
--kept replays them. The Python standard library is all that is used.
"""
import argparse
import collections
import json
import multiprocessing
import os
import re
import sys
import time

from case import Case, make_data
from generate import Random, names_in
from minimise import Minimiser, carry_out
from tree import snap

RUNS_A_CASE = 10
FAILURES = ('wrong', 'noise', 'missed', 'accused')


def random_events(rng, case, scripts):
    """The events of a case, made one by one, since changes depend on what is there."""
    habits, numbers, n_scripts, named = rng.habits(snap(case.top)), [], len(scripts), names_in(scripts)
    for number in range(RUNS_A_CASE):
        changes = rng.choice([0, 1, 1, 1, 2]) if number > 1 else 0
        while changes:
            changes -= 1
            event = rng.change(snap(case.top), sorted(case.touched), named, numbers, n_scripts)
            # As before some run, but for one thing: what a hit may not overlook.
            changes += event['do'] == 'restore' and not changes and rng.random() < 0.5
            yield event
        numbers.append(number)
        yield dict(rng.run_event(n_scripts, habits), number=number)


def random_case(options, number):
    """([(what, why)], data, log) of the case of this number."""
    rng = Random(f'{options.seed} {number}')
    big, n_scripts = rng.random() < options.big, rng.choice([1, 1, 2, 3])
    world = rng.world(big)
    scripts = [rng.script(os.geteuid() == 0, big, world) for _ in range(n_scripts)]
    case = Case(options, make_data(world, scripts, []))
    try:
        results = list(case.go(random_events(rng, case, scripts)))
    finally:
        case.end()
    return results, make_data(world, scripts, case.done), case.log


def told(data, log):
    """A case in words."""
    out = ['world:']
    out += [f'    {p} {e[0]} {e[1]:o} {str(e[2])[:60]!r} {[x for x in e[3:] if x] or ""}' for p, e in sorted(data['world'].items())]
    for k, lines in enumerate(data['scripts']):
        out += [f'script{k}:'] + ['    ' + x for x in lines]
    return '\n'.join(out + ['what happened:'] + ['    ' + x for x in log])


def report_failure(options, number, what, why, data, log):
    """What is printed of a case that failed."""
    out = [f'== case {number} of seed {options.seed}: {what}: {why}']
    small = Minimiser(options, data, what, options.minimise).run() if options.minimise else None
    if small:
        results, log = carry_out(options, small)
        why = next((w for x, w in results if x == what), 'not always')
        out.append(f'-- cut down: {what}: {why}')
    elif options.minimise:
        out.append('-- it did not fail again: a matter of time, or of what else goes on here')
    out += [told(small or data, log), '-- for --replay:', json.dumps(small or data)]
    return '\n'.join(out)


def job(args):
    options, number = args
    try:
        results, data, log = random_case(options, number)
    except Exception as e:  # with the number, whatever it is
        raise RuntimeError(f'case {number} of seed {options.seed}: {type(e).__name__}: {e}') from e
    texts, shown = [], FAILURES + (('could',) if options.v else ())
    for what in shown:
        why = next((w for x, w in results if x == what), None)
        if why is not None:
            texts.append(report_failure(options, number, what, why, data, log))
    return results, texts


def plain(why):
    """A reason without what is different in every case."""
    return re.sub(r'\S*/mlfs-model-\w+/', '', why)


def replay(options):
    with sys.stdin if options.replay == '-' else open(options.replay, encoding='utf-8') as f:
        data = json.load(f)
    results, log = carry_out(options, data)
    print(told(data, log))
    for what, why in results:
        print(what, why)
    return 1 if any(what in FAILURES for what, _ in results) else 0


def kept(options, names):
    """The cases in kept/, or those named: how many are not as they should be."""
    failed, where = 0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kept')
    for name in sorted(names or (x.removesuffix('.json') for x in os.listdir(where))):
        with open(os.path.join(where, name + '.json'), encoding='utf-8') as f:
            data = json.load(f)
        results, log = carry_out(options, data)
        want = data.get('want_user' if os.geteuid() else 'want', data['want'])
        good = ' '.join(what for what, _ in results) == want
        print(f'{"ok" if good else "not ok"} {name}', flush=True)
        if not good:
            failed += 1
            print(f'{data["about"]}\nwanted: {want}', *(f'{what} {why}' for what, why in results), *log, sep='\n    ')
    return failed


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--mlfs', required=True)
    p.add_argument('--stepper', required=True)
    p.add_argument('--jobs', type=int, default=1, help='cases at once')
    p.add_argument('--case', type=int, help='only this one')
    p.add_argument('--replay', help='a case that was printed; -: from stdin')
    p.add_argument('--kept', action='store_true', help='replay the cases of the past, all or those named')
    p.add_argument('--minimise', type=float, default=60, metavar='S', help='seconds to cut a failure down; 0: not at all')
    p.add_argument('--big', type=float, default=0.02, help='share of cases with files of 16 and 64 MiB')
    p.add_argument('--failures', type=int, default=5, help='stop after so many')
    p.add_argument('--missed', type=int, default=0, metavar='N', help='pass with so many missed hits')
    p.add_argument('-v', action='store_true', help='say each that could have been a hit')
    p.add_argument('runs', nargs='*', metavar='RUNS [SEED]')
    o = p.parse_args()
    if o.replay:
        return replay(o)
    if o.kept:
        return 1 if kept(o, o.runs) else 0
    if len(o.runs) > 2 or not all(x.isdecimal() for x in o.runs[:1]):
        p.error('RUNS [SEED] is wanted')
    o.runs, o.seed = int((o.runs + ['400'])[0]), (o.runs + ['', ''])[1] or str(time.time_ns() % 1000000)
    print(f'oracle: {o.runs} runs, seed {o.seed}', flush=True)
    count, why, failures = collections.Counter(), collections.Counter(), 0
    numbers = [o.case] if o.case is not None else range((o.runs + RUNS_A_CASE - 1) // RUNS_A_CASE)
    with multiprocessing.get_context('fork').Pool(o.jobs) as pool:
        for results, texts in pool.imap_unordered(job, ((o, n) for n in numbers)):
            for what, text in results:
                count[what] += 1
                if what in ('missed', 'unstored', 'accused', 'noise', 'could', 'blind'):
                    why[f'{what}: {plain(text)}'] += 1
            for text in texts:
                print(text, flush=True)
            failures += any(x in FAILURES for x, _ in results)
            if failures >= o.failures:
                print(f'stopped after {failures} cases that failed')
                break
    for text, n in why.most_common(25):
        print(f'{n:6} {text}')
    print(', '.join(f'{n} {what}' for what, n in sorted(count.items())))
    bad = sum(count[x] for x in FAILURES)
    if count['missed'] <= o.missed:
        bad -= count['missed']
    print(f'{sum(count.values()) - bad} passed, {bad} failed')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
