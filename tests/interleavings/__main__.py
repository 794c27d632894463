"""Hold one command at each of its steps while another one runs: python -m tests.interleavings [--sample N] …

See README.md here.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter

from tests.interleavings.breaks import BREAKS
from tests.interleavings.many import Plan, Tried, chosen, one_of_each, try_all
from tests.simulation.running import fix_hashes, tell_broken


def main() -> int:
    """Try the pairs, print what is like no serial order, and the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__)
    parser.add_argument("--first", help="only this command is held")
    parser.add_argument("--second", help="only this one comes in between")
    parser.add_argument("--situation", help="only here")
    parser.add_argument("--every-step", action="store_true", help="also where nobody else could see a difference")
    parser.add_argument("--switches", type=int, choices=(1, 2), default=2)
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N trials of each pair, chosen by --seed")
    parser.add_argument("--one-of-each", action="store_true", help="each two commands once, somewhere")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="the Ith of N shares of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", action="store_true", help="what happened in the first trial of each kind")
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), help="with a product that is broken so")
    given = parser.parse_args()
    if given.broken is not None:
        return tell_broken(given.broken, BREAKS[given.broken].broken, "tests.interleavings")
    fix_hashes("tests.interleavings")
    plan = Plan(given.every_step, given.switches, given.sample or int(given.one_of_each), given.seed)
    wanted = one_of_each(given.seed) if given.one_of_each else chosen(given.first, given.second, given.situation)
    part, parts = map(int, given.part.split("/"))
    wanted = wanted[len(wanted) * part // parts : len(wanted) * (part + 1) // parts]
    began = time.monotonic()
    once, twice = Counter[str](), Counter[str]()
    failed = 0
    for tried in try_all(wanted, plan, given.workers):
        name = f"{tried.pair.first} / {tried.pair.second}"
        once[name] += tried.once
        twice[name] += tried.twice
        failed += len(tried.failed)
        _show(tried, given.log)
    for name in once:
        print(f"{name}: {once[name]} with one switch, {twice[name]} with two")
    seconds = time.monotonic() - began
    print(
        f"{len(wanted)} pairs in their situations, {len(once)} kinds of pairs: {once.total()} trials with one switch, "
    )
    print(f"{twice.total()} with two, in {seconds:.0f} s; {failed} like no serial order")
    return 1 if failed or not once.total() else 0


def _show(tried: Tried, with_log: bool) -> None:
    kinds = dict[str, int]()
    for told in tried.failed:
        kind = re.sub(r"\d+", "#", "; ".join(told.problems))
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] == 1:
            print(f"WRONG {str(told)[:1500]}", flush=True)
            if with_log:
                print("".join(f"    {line}\n" for line in told.log))
    for kind, count in kinds.items():
        if count > 1:
            print(f"    {count} times {kind[:100]}")


if __name__ == "__main__":
    sys.exit(main())
