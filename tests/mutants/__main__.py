"""Break the product in one place at a time, and see whether the tests notice: python -m tests.mutants --help.

See README.md here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.mutants.copied import Copy, Verdict, copy
from tests.mutants.plan import PLAN, ROOT
from tests.mutants.sites import Key, Mutant, equivalent, mutants, mutated

_REMEMBERED = 12  # tests that killed the mutants before, and are tried first


class Session:
    """What became of the mutants so far, one a line of JSON; without a file it is forgotten at the end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.verdicts: dict[Key, Verdict] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                told = json.loads(line)
                self.verdicts[Key(*told["mutant"])] = Verdict(told["killed"], told["by"])

    def add(self, key: Key, verdict: Verdict) -> None:
        """Keep a verdict."""
        self.verdicts[key] = verdict
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"mutant": key, "killed": verdict.killed, "by": verdict.by}) + "\n")


def _chosen(given: argparse.Namespace, root: Path) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with the text of its module."""
    at = 0
    for module in given.module or PLAN:
        text = (root / module).read_text("utf-8")
        for mutant in mutants(module, text):
            if at % given.every == 0:
                yield mutant, text
            at += 1


def _try_all(given: argparse.Namespace, session: Session, listed: Mapping[Key, str], made: Copy) -> None:
    killers: dict[str, deque[str]] = {}
    for mutant, original in _chosen(given, made.root):
        key, known = mutant.key, session.verdicts.get(mutant.key)
        if (known is not None and (known.killed or not given.again)) or (key in listed and not given.listed):
            continue
        text = mutated(original, mutant)
        if text is None:
            session.add(key, Verdict(True, "no program"))
            continue
        stages = PLAN[key.module].stages()[: given.stages]
        for stage in stages:
            failed = made.measure(stage)
            if failed.killed:
                sys.exit(f"without a mutant {failed.by} fails: {stage}")
        latest = killers.setdefault(key.module, deque(maxlen=_REMEMBERED))
        with made.mutated(key.module, text):
            verdict = made.judge(stages, list(latest))
        session.add(key, verdict)
        if verdict.killed and "::" in verdict.by:
            if verdict.by in latest:
                latest.remove(verdict.by)
            latest.appendleft(verdict.by)
        if not verdict.killed:
            print(f"SURVIVED {key} (line {mutant.row})", flush=True)


def _tell(given: argparse.Namespace, session: Session, listed: Mapping[Key, str]) -> int:
    """Print the counts, and what is wrong; return the exit code."""
    wrong, total = 0, Counter[str]()
    for module in given.module or PLAN:
        keys = {mutant.key for mutant in mutants(module, (ROOT / module).read_text("utf-8"))}
        counts = Counter(_became(key, session, listed) for key in keys)
        print(f"{module}: {_words(counts)}")
        total += counts
        for key in sorted(keys):
            if _became(key, session, listed) == "survived":
                print(f"  SURVIVED {key}")
                wrong += 1
        for key in sorted(set(listed)):
            if key.module == module and key not in keys:
                print(f"  LISTED, BUT NO MUTANT ANY MORE: {key}")
                wrong += 1
            elif key.module == module and key in session.verdicts and session.verdicts[key].killed:
                print(f"  LISTED AS EQUIVALENT, BUT KILLED: {key} by {session.verdicts[key].by}")
                wrong += 1
    print(f"total: {_words(total)}")
    return int(wrong > 0)


def _became(key: Key, session: Session, listed: Mapping[Key, str]) -> str:
    if key in listed:
        return "equivalent"
    verdict = session.verdicts.get(key)
    if verdict is None:
        return "not tried"
    return ("timed out" if verdict.by == "time-out" else "killed") if verdict.killed else "survived"


def _words(counts: Mapping[str, int]) -> str:
    names = ("killed", "timed out", "equivalent", "survived", "not tried")
    return ", ".join([f"{sum(counts.values())} mutants", *(f"{counts[name]} {name}" for name in names if counts[name])])


def main() -> int:
    """Try the mutants and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--module", action="append", choices=list(PLAN), metavar="PATH", help="only those of a module")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth mutant")
    parser.add_argument("--session", type=Path, metavar="FILE", help="keep the results there, and go on with them")
    parser.add_argument("--again", action="store_true", help="try survivors of the session once more")
    parser.add_argument("--listed", action="store_true", help="try those that are listed as equivalent, too")
    parser.add_argument("--stages", type=int, metavar="N", help="only the first N stages of the plan")
    parser.add_argument("--list", action="store_true", help="print what is planned, and what is known of it")
    given = parser.parse_args()
    try:
        import cosmic_ray  # noqa: F401
    except ImportError:
        print("tests.mutants: cosmic-ray is not installed: make mutants does that", file=sys.stderr)
        return 2
    session, listed = Session(given.session), equivalent()
    if given.list:
        for module in given.module or PLAN:
            names = [f"{stage.name} {' '.join(stage.paths)}".strip() for stage in PLAN[module].stages()]
            print(f"{module}: {'; '.join(names[: given.stages])}")
        _tell(given, session, listed)
        return 0
    began = time.monotonic()
    with copy() as made:
        _try_all(given, session, listed, made)
    code = _tell(given, session, listed)
    print(f"{time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
