"""Live many worlds: python -m tests.simulation [--worlds N] [--seed FIRST] [--replay SEED | FILE] …; --help tells all.

See README.md here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation import old
from tests.simulation.breaks import BREAKS
from tests.simulation.files import scratch
from tests.simulation.many import alone, live, live_all, shrunk
from tests.simulation.running import begin, fix_hashes, tell_broken
from tests.simulation.steps import Shares, parse, story_of


def _replay(what: str, shares: Shares) -> int:
    story = parse(Path(what).read_text()) if Path(what).exists() else story_of(int(what), shares)
    report = live(story)
    print(story, "", *report.log, "", *(report.problems or ("clean",)), sep="\n")
    if report.problems and story.settings.old > 1:
        name = alone(story)
        print(f"the {name} version alone fails, too" if name else "neither version alone fails")
    return 1 if report.problems else 0


def main() -> int:
    """Live the worlds, print what failed as lists of steps, and the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--worlds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", metavar="SEED|FILE")
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS))
    parser.add_argument("--old", type=float, default=0.0, metavar="SHARE", help="of commands of the last release")
    parser.add_argument("--chains", type=float, default=0.0, metavar="SHARE", help="of worlds with two workflows")
    parser.add_argument("--feeds", type=float, default=0.0, metavar="SHARE", help="of worlds with feeding jobs")
    parser.add_argument("--stop-at", type=int, metavar="FAILURES", default=5)
    parser.add_argument("--no-shrink", action="store_true")
    given = parser.parse_args()
    if given.broken is not None:
        return tell_broken(given.broken, BREAKS[given.broken], "tests.simulation")
    fix_hashes("tests.simulation")
    with scratch() as directory:  # no TemporaryDirectory: commands do at their end what the process would do at its end
        return _live(given, old.unpack(directory))


def _live(given: argparse.Namespace, release: Path) -> int:
    shares = Shares(given.old, given.chains, given.feeds)
    if given.replay is not None:
        begin(release)
        return _replay(given.replay, shares)
    began = time.monotonic()
    failed: list[tuple[int, tuple[str, ...]]] = []
    worlds, excused, pairs = 0, Counter[str](), set[tuple[str, str]]()
    counts, rules = Counter[str](), Counter[str]()
    wanted = release if given.old else None
    for told in live_all(given.seed, given.worlds, given.workers, given.stop_at, shares, wanted):
        worlds += told.worlds
        counts += told.counts
        for seed, name, problem in told.excused:
            excused[name] += 1
            print(f"seed {seed}, the {name} version alone, too: {problem[:600]}", flush=True)
        rules += told.rules
        pairs |= told.pairs
        for seed, problems in told.failed:
            failed.append((seed, problems))
            print(f"seed {seed}: {problems[0][:600]}", flush=True)
    if failed and not given.no_shrink:
        begin(wanted)
        seed, _ = failed[0]
        short = shrunk(story_of(seed, shares))
        print(f"\nseed {seed}, made shorter (a test can replay these lines):\n\n{short}\n")
    seconds = time.monotonic() - began
    print(f"{worlds} worlds, {counts['steps']} steps, {counts['commands']} commands in {seconds:.0f} s")
    print(f"{len(rules)} rules ({', '.join(f'{name} {count}' for name, count in sorted(rules.items()))})")
    print(f"{len(pairs)} of {len(rules) ** 2} ordered pairs of rules; {len(failed)} worlds failed")
    if given.old:
        print(f"{counts['old commands']} commands were of ESIS {old.VERSION}")
        print(
            f"failed in one version's worlds, too: {excused['old']} of the old one's, {excused['new']} of the new one's"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
