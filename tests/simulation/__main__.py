"""Live many worlds: python -m tests.simulation [--worlds N] [--seed FIRST] [--replay SEED | FILE] [--break NAME].

See README.md here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation.breaks import BREAKS
from tests.simulation.many import live, live_all, shrunk
from tests.simulation.running import begin, fix_hashes, tell_broken
from tests.simulation.steps import invent, parse


def _replay(what: str) -> int:
    story = parse(Path(what).read_text()) if Path(what).exists() else invent(int(what))
    report = live(story)
    print(story, "", *report.log, "", *(report.problems or ("clean",)), sep="\n")
    return 1 if report.problems else 0


def main() -> int:
    """Live the worlds, print what failed as lists of steps, and the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--worlds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", metavar="SEED|FILE")
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS))
    parser.add_argument("--stop-at", type=int, metavar="FAILURES", default=5)
    parser.add_argument("--no-shrink", action="store_true")
    given = parser.parse_args()
    if given.broken is not None:
        return tell_broken(given.broken, BREAKS[given.broken], "tests.simulation")
    fix_hashes("tests.simulation")
    if given.replay is not None:
        begin()
        return _replay(given.replay)
    began = time.monotonic()
    failed: list[tuple[int, tuple[str, ...]]] = []
    worlds, counts, rules, pairs = 0, Counter[str](), Counter[str](), set[tuple[str, str]]()
    for told in live_all(given.seed, given.worlds, given.workers, given.stop_at):
        worlds += told.worlds
        counts += told.counts
        rules += told.rules
        pairs |= told.pairs
        for seed, problems in told.failed:
            failed.append((seed, problems))
            print(f"seed {seed}: {problems[0][:600]}", flush=True)
    if failed and not given.no_shrink:
        begin()
        seed, problems = failed[0]
        print(f"\nseed {seed}, made shorter (a test can replay these lines):\n\n{shrunk(invent(seed))}\n")
    seconds = time.monotonic() - began
    print(f"{worlds} worlds, {counts['steps']} steps, {counts['commands']} commands in {seconds:.0f} s")
    print(f"{len(rules)} rules ({', '.join(f'{name} {count}' for name, count in sorted(rules.items()))})")
    print(f"{len(pairs)} of {len(rules) ** 2} ordered pairs of rules; {len(failed)} worlds failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
